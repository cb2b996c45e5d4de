"""Vectors of float32 in LLVM's intermediate code: what the innermost loops of the kernel are built from.

A compiler does not find these loops in Python's. An element of a product is one chain of fused multiply-adds along
the depth, in order, in blocks that fill the vector registers. Addresses are int64; strides are in values, not in bytes.
"""

# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from stream_detector.gan.memory import LEAF

__all__ = [
    "LANES",
    "ROWS",
    "SIZE",
    "WIDTH",
    "append",
    "gathered_block",
    "least_of_lanes",
    "lower",
    "many",
    "not_above",
    "one",
    "outside",
    "product_of",
    "trailing",
]

LANES = 8  # float32 values in a vector; processors with other registers split or pair them
VECTORS = 2
WIDTH = LANES * VECTORS  # columns of a block: outputs come in whole multiples
ROWS = 6  # of a block: its sums, two vectors a row, fill the registers
SIZE = 4  # bytes a value

FLOAT, WORD, INDEX, BYTE = ir.FloatType(), ir.IntType(64), ir.IntType(32), ir.IntType(8)
VECTOR, WHOLE, OCTET = (ir.VectorType(kind, LANES) for kind in (FLOAT, INDEX, BYTE))
ZEROS = ir.Constant(VECTOR, [0.0] * LANES)
ADDRESS = VECTOR.as_pointer()
Values = list[ir.Value]


def emit_loop(
    builder: ir.IRBuilder,
    terms: Callable[[ir.Value], Sequence[tuple[ir.Value, ir.Value]]],
    begun: Values,
    length: ir.Value,
    stride: int,
) -> Values:
    """Sums of products: `terms` of every step up to `length`, each onto its own of the vectors begun with."""
    before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(WORD)
    step.add_incoming(WORD(0), before)
    sums = [builder.phi(VECTOR) for _ in begun]
    added = [builder.call(fused(builder), [*term, total]) for term, total in zip(terms(step), sums, strict=True)]
    for total, first, new in zip(sums, begun, added, strict=True):
        total.add_incoming(first, before)
        total.add_incoming(new, loop)
    following = builder.add(step, WORD(stride))
    step.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, length), loop, after)
    builder.position_at_end(after)
    return added


def places(builder: ir.IRBuilder, first: ir.Value, stride: ir.Value, rows: int) -> Values:
    """Addresses of the vectors of a block, row after row."""
    starts = [at(builder, first, builder.mul(stride, WORD(row))) for row in range(rows)]
    return [place for start in starts for place in vectors(builder, start)]


def vectors(builder: ir.IRBuilder, first: ir.Value) -> Values:
    """Addresses of the vectors of WIDTH values."""
    return [builder.add(first, WORD(SIZE * LANES * vector)) for vector in range(VECTORS)]


def store(builder: ir.IRBuilder, values: Values, places: Values) -> None:
    for value, place in zip(values, places, strict=True):
        builder.store(value, builder.inttoptr(place, ADDRESS)).align = SIZE


def greater(builder: ir.IRBuilder, one: ir.Value, other: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


def less(builder: ir.IRBuilder, one: ir.Value, other: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered("<", one, other), one, other)


def fused(builder: ir.IRBuilder) -> Any:
    """Multiplies two vectors and adds a third, rounding once."""
    form = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return cgutils.get_or_insert_function(builder.module, form, f"llvm.fma.v{LANES}f32")


def at(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value) -> ir.Value:
    return builder.add(base, builder.mul(offset, WORD(SIZE)))


def load(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    loaded = builder.load(builder.inttoptr(address, ADDRESS))
    loaded.align = SIZE
    return loaded


def spread(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """The value at an address in every lane."""
    return in_every_lane(builder, builder.load(builder.inttoptr(address, FLOAT.as_pointer())))


def in_every_lane(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(nothing, value, INDEX(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INDEX, LANES), [0] * LANES))


def halves(builder: ir.IRBuilder, vector: ir.Value, join: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
    """Joins all lanes into one value: half with half, again and again."""
    for width in (LANES // 2, LANES // 4, LANES // 8):
        places = [(lane + width) % LANES for lane in range(LANES)]
        mask = ir.Constant(ir.VectorType(INDEX, LANES), places)
        vector = join(vector, builder.shuffle_vector(vector, vector, mask))
    return builder.extract_element(vector, INDEX(0))


def _block(rows: int) -> Any:
    """`block(x, x_stride, w, w_stride, start, start_stride, slope, y, y_stride, depth)`: y = rectified(start + x @ w)
    for so many rows and WIDTH columns, what is negative times `slope`.
    """

    @intrinsic
    def block(
        _typing: Any,
        x: Any,
        x_stride: Any,
        w: Any,
        w_stride: Any,
        start: Any,
        start_stride: Any,
        slope: Any,
        y: Any,
        y_stride: Any,
        depth: Any,
    ) -> tuple[Any, Any]:
        def emit(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
            x, x_stride, w, w_stride, start, start_stride, slope, y, y_stride, depth = arguments
            begun = [load(builder, place) for place in places(builder, start, start_stride, rows)]
            inputs = [at(builder, x, builder.mul(x_stride, WORD(row))) for row in range(rows)]
            sums = _emit_sums(builder, inputs, (w, w_stride), begun, depth)
            rise = in_every_lane(builder, slope)
            ends = [greater(builder, total, builder.fmul(total, rise)) for total in sums]
            store(builder, ends, places(builder, y, y_stride, rows))
            return context.get_dummy_value()

        signature = types.void(x, x_stride, w, w_stride, start, start_stride, slope, y, y_stride, depth)
        return signature, emit

    return block


many, one = _block(ROWS), _block(1)


@intrinsic
def gathered_block(
    _typing: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, w: Any, y: Any, y_stride: Any, depth: Any
) -> tuple[Any, Any]:
    """`gathered_block(a, b, c, d, e, f, w, y, y_stride, depth)`: y = x @ w for ROWS rows, each at its own address."""

    def emit(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        *inputs, w, y, y_stride, depth = arguments
        sums = _emit_sums(builder, inputs, (w, WORD(WIDTH)), [ZEROS] * (ROWS * VECTORS), depth)
        store(builder, sums, places(builder, y, y_stride, ROWS))
        return context.get_dummy_value()

    return types.void(a, b, c, d, e, f, w, y, y_stride, depth), emit


def _emit_sums(
    builder: ir.IRBuilder, inputs: Values, weights: tuple[ir.Value, ir.Value], begun: Values, depth: ir.Value
) -> Values:
    """For every input's row the sums of VECTORS vectors, from those begun with."""

    def terms(step: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
        line = at(builder, weights[0], builder.mul(weights[1], step))
        shared = [load(builder, place) for place in vectors(builder, line)]
        factors = [spread(builder, at(builder, each, step)) for each in inputs]
        return [(factor, weight) for factor in factors for weight in shared]

    return emit_loop(builder, terms, begun, depth, 1)


@intrinsic
def product_of(_typing: Any, x: Any, w: Any, length: Any) -> tuple[Any, Any]:
    """`product_of(x, w, length)`: of two vectors, whose length is a multiple of WIDTH."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        x, w, length = arguments

        def terms(step: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
            pairs = zip(*[vectors(builder, at(builder, each, step)) for each in (x, w)], strict=True)
            return [(load(builder, one), load(builder, other)) for one, other in pairs]

        sums = emit_loop(builder, terms, [ZEROS] * VECTORS, length, WIDTH)
        return halves(builder, reduce(builder.fadd, sums), builder.fadd)

    return types.float32(x, w, length), emit


def _set(bits: int) -> ir.Constant:
    """The places of the bits that are set, from the lowest on, and zeros."""
    places = [place for place in range(LANES) if bits >> place & 1]
    return ir.Constant(OCTET, places + [0] * (LANES - len(places)))


SETS = [_set(bits) for bits in range(2**LANES)]


@intrinsic
def not_above(_typing: Any, values: Any, limit: Any) -> tuple[Any, Any]:
    """`not_above(values, limit)`: which of LEAF values are at most a float32, a bit each."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        start, limit = arguments
        most, bits = in_every_lane(builder, limit), WORD(0)
        for lane in range(0, LEAF, LANES):
            found = builder.fcmp_ordered("<=", load(builder, builder.add(start, WORD(SIZE * lane))), most)
            word = builder.zext(builder.bitcast(found, ir.IntType(LANES)), WORD)
            bits = builder.or_(bits, builder.shl(word, WORD(lane)))
        return bits

    return types.int64(values, limit), emit


@intrinsic
def least_of_lanes(_typing: Any, values: Any, into: Any) -> tuple[Any, Any]:
    """`least_of_lanes(values, into)`: the least of every LANES-th of LEAF values, LANES of them."""

    def emit(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        start, into = arguments
        vectors = [load(builder, builder.add(start, WORD(SIZE * lane))) for lane in range(0, LEAF, LANES)]
        store(builder, [reduce(lambda one, other: less(builder, one, other), vectors)], [into])
        return context.get_dummy_value()

    return types.void(values, into), emit


@intrinsic
def outside(
    _typing: Any, x: Any, x_stride: Any, low: Any, high: Any, stride: Any, start: Any, y: Any, depth: Any
) -> tuple[Any, Any]:
    """`outside(x, x_stride, low, high, stride, start, y, depth)`: y = start + the squared distances of WIDTH columns of
    x from a box, whose corners are columns of their own.
    """

    def emit(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        x, x_stride, low, high, stride, start, y, depth = arguments

        def terms(step: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
            corner = builder.mul(stride, step)
            least, most = spread(builder, at(builder, low, corner)), spread(builder, at(builder, high, corner))
            line = at(builder, x, builder.mul(x_stride, step))
            return [(gap, gap) for gap in _gaps(builder, least, most, vectors(builder, line))]

        begun = [load(builder, place) for place in vectors(builder, start)]
        store(builder, emit_loop(builder, terms, begun, depth, 1), vectors(builder, y))
        return context.get_dummy_value()

    return types.void(x, x_stride, low, high, stride, start, y, depth), emit


@intrinsic
def lower(_typing: Any, values: Any, number: Any, least: Any, which: Any) -> tuple[Any, Any]:
    """`lower(values, number, least, which)`: where WIDTH values are below the least so far they take its place, and
    `number` that of `which`, int32.
    """

    def emit(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        values, number, least, which = arguments
        own = in_every_lane(builder, builder.trunc(number, INDEX))
        for new, old, place in zip(*[vectors(builder, each) for each in (values, least, which)], strict=True):
            value, known = load(builder, new), load(builder, old)
            target = builder.inttoptr(place, WHOLE.as_pointer())
            known_place = builder.load(target)
            known_place.align = SIZE
            below = builder.fcmp_ordered("<", value, known)
            store(builder, [builder.select(below, value, known)], [old])
            builder.store(builder.select(below, own, known_place), target).align = SIZE
        return context.get_dummy_value()

    return types.void(values, number, least, which), emit


def _gaps(builder: ir.IRBuilder, low: ir.Value, high: ir.Value, places: Values) -> Values:
    """The distances of vectors from an interval, 0 inside."""
    values = [load(builder, place) for place in places]
    sides = [greater(builder, builder.fsub(low, value), builder.fsub(value, high)) for value in values]
    return [greater(builder, side, ZEROS) for side in sides]


@intrinsic
def append(_typing: Any, one: Any, other: Any, first: Any, into: Any) -> tuple[Any, Any]:
    """`append(one, other, first, into)`: those of LANES places, counted from `first` on, where one value is not above
    the other, as int32 into what has room for LANES; how many.
    """

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        one, other, first, into = arguments
        above = builder.fcmp_ordered(">", load(builder, one), load(builder, other))
        bits = builder.zext(builder.not_(builder.bitcast(above, BYTE)), WORD)
        table = cgutils.global_constant(builder, "lanes_of", ir.Constant(ir.ArrayType(OCTET, len(SETS)), SETS))
        table.align = LANES
        lanes = builder.zext(builder.load(builder.gep(table, [WORD(0), bits])), WHOLE)
        places = builder.add(lanes, in_every_lane(builder, builder.trunc(first, INDEX)))
        builder.store(places, builder.inttoptr(into, WHOLE.as_pointer())).align = SIZE
        return builder.ctpop(bits)

    return types.int64(one, other, first, into), emit


@intrinsic
def trailing(_typing: Any, bits: Any) -> tuple[Any, Any]:
    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(bits), emit
