"""Matrix products whose every row is computed alike, whatever the other rows are.

A library's last bits depend on how many rows a product has and on the processor. Here an element is
one chain of fused multiply-adds along the depth, in order, in blocks that fill the vector registers:
as fast as a tuned library on narrow matrices, equal to the bit for one row and for many. LLVM's
intermediate code says it directly, for a compiler does not find it in loops.
"""

# mypy: disable-error-code="call-arg, no-untyped-def, no-untyped-call"

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from stream_detector.scoring.memory import LEAF

__all__ = [
    "LANES",
    "LEAF",
    "ROWS",
    "WIDTH",
    "below",
    "lowest",
    "multiply",
    "multiply_leaf",
    "multiply_triangle",
    "product",
    "square_sum",
]

LANES = 8  # float32 values in a vector; processors with other registers split or pair them
VECTORS = 2
WIDTH = LANES * VECTORS  # columns of a block: outputs come in whole multiples
ROWS = 6  # of a block: its sums, two vectors a row, fill the registers
SIZE = 4  # bytes a value

FLOAT, WORD, INDEX = ir.FloatType(), ir.IntType(64), ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)
ADDRESS = VECTOR.as_pointer()


def _block(rows: int) -> Any:
    """`block(x, x_stride, w, w_stride, y, y_stride, depth)`: y = x @ w for so many rows, WIDTH columns."""

    @intrinsic
    def block(
        _typing: Any, x: Any, x_stride: Any, w: Any, w_stride: Any, y: Any, y_stride: Any, depth: Any
    ) -> tuple[Any, Any]:
        def emit(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
            _emit_block(builder, rows, arguments)
            return context.get_dummy_value()

        return types.void(x, x_stride, w, w_stride, y, y_stride, depth), emit

    return block


def _emit_block(builder: ir.IRBuilder, rows: int, arguments: Sequence[ir.Value]) -> None:
    x, x_stride, w, w_stride, y, y_stride, depth = arguments
    before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
    inputs = [_at(builder, x, builder.mul(x_stride, WORD(row))) for row in range(rows)]
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(WORD)
    step.add_incoming(WORD(0), before)
    sums = [builder.phi(VECTOR) for _ in range(rows * VECTORS)]
    line = _at(builder, w, builder.mul(w_stride, step))
    weights = [_load(builder, builder.add(line, WORD(SIZE * LANES * v))) for v in range(VECTORS)]
    factors = [_spread(builder, _at(builder, each, step)) for each in inputs]
    terms = [(factor, weight) for factor in factors for weight in weights]
    added = [builder.call(_fused(builder), [*term, total]) for term, total in zip(terms, sums, strict=True)]
    for total, new in zip(sums, added, strict=True):
        total.add_incoming(ir.Constant(VECTOR, [0.0] * LANES), before)
        total.add_incoming(new, loop)
    following = builder.add(step, WORD(1))
    step.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    builder.position_at_end(after)
    for place, total in enumerate(added):
        row, vector = divmod(place, VECTORS)
        target = builder.add(_at(builder, y, builder.mul(y_stride, WORD(row))), WORD(SIZE * LANES * vector))
        builder.store(total, builder.inttoptr(target, ADDRESS)).align = SIZE


def _fused(builder: ir.IRBuilder) -> Any:
    """Multiplies two vectors and adds a third, rounding once."""
    form = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return cgutils.get_or_insert_function(builder.module, form, f"llvm.fma.v{LANES}f32")


def _at(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value) -> ir.Value:
    return builder.add(base, builder.mul(offset, WORD(SIZE)))


def _load(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    loaded = builder.load(builder.inttoptr(address, ADDRESS))
    loaded.align = SIZE
    return loaded


def _spread(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """The value at an address in every lane."""
    return _in_every_lane(builder, builder.load(builder.inttoptr(address, FLOAT.as_pointer())))


def _in_every_lane(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    nothing = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, value, INDEX(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INDEX, LANES), [0] * LANES))


def _halves(builder: ir.IRBuilder, vector: ir.Value, join: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
    """All lanes joined into one value: half with half, again and again."""
    for width in (LANES // 2, LANES // 4, LANES // 8):
        places = [(lane + width) % LANES for lane in range(LANES)]
        mask = ir.Constant(ir.VectorType(INDEX, LANES), places)
        vector = join(vector, builder.shuffle_vector(vector, vector, mask))
    return builder.extract_element(vector, INDEX(0))


@intrinsic
def _below(_typing: Any, values: Any, limit: Any) -> tuple[Any, Any]:
    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        start, limit = arguments
        found = builder.fcmp_ordered("<=", _load(builder, start), _in_every_lane(builder, limit))
        return builder.zext(builder.bitcast(found, ir.IntType(LANES)), WORD)

    return types.int64(values, limit), emit


@intrinsic
def _lowest(_typing: Any, bits: Any) -> tuple[Any, Any]:
    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(bits), emit


@intrinsic
def _product(_typing: Any, x: Any, w: Any, length: Any) -> tuple[Any, Any]:
    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        x, w, length = arguments
        before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(WORD)
        step.add_incoming(WORD(0), before)
        sums = [builder.phi(VECTOR) for _ in range(VECTORS)]
        places = [builder.add(step, WORD(LANES * vector)) for vector in range(VECTORS)]
        terms = [(_load(builder, _at(builder, x, place)), _load(builder, _at(builder, w, place))) for place in places]
        added = [builder.call(_fused(builder), [*term, total]) for term, total in zip(terms, sums, strict=True)]
        for total, new in zip(sums, added, strict=True):
            total.add_incoming(ir.Constant(VECTOR, [0.0] * LANES), before)
            total.add_incoming(new, loop)
        following = builder.add(step, WORD(WIDTH))
        step.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, length), loop, after)
        builder.position_at_end(after)
        return _halves(builder, reduce(builder.fadd, added), builder.fadd)

    return types.float32(x, w, length), emit


_many, _one = _block(ROWS), _block(1)


@njit(nogil=True, cache=True)
def multiply(x, w, y, rows):
    """Writes the first `rows` rows of x @ w into y, all float32 and contiguous.

    x [row, at least depth], w [depth, width], y [row, at least width]; width is a multiple of WIDTH.
    """
    for column in range(0, w.shape[1], WIDTH):
        _multiply_column(x, w, y, rows, column, len(w))


@njit(nogil=True, cache=True)
def multiply_triangle(x, w, y, rows):
    """As `multiply` where w [width, width] is upper triangular: what is below its diagonal is not looked at."""
    for column in range(0, w.shape[1], WIDTH):
        _multiply_column(x, w, y, rows, column, min(column + WIDTH, len(w)))


@njit(nogil=True, cache=True)
def _multiply_column(x, w, y, rows, column, depth):
    """WIDTH columns of a product, of which only so many terms count."""
    width, x_stride, y_stride = w.shape[1], x.shape[1], y.shape[1]
    x_first, w_at, y_first = x.ctypes.data, w.ctypes.data + SIZE * column, y.ctypes.data + SIZE * column
    whole = rows - rows % ROWS
    for row in range(0, whole, ROWS):
        x_at, y_at = x_first + SIZE * row * x_stride, y_first + SIZE * row * y_stride
        _many(x_at, x_stride, w_at, width, y_at, y_stride, depth)
    for row in range(whole, rows):
        x_at, y_at = x_first + SIZE * row * x_stride, y_first + SIZE * row * y_stride
        _one(x_at, x_stride, w_at, width, y_at, y_stride, depth)


@njit(nogil=True, cache=True)
def multiply_leaf(x, blocks, leaf, y, rows):
    """Writes x @ w into y [ROWS, LEAF] for the first `rows` rows of x [ROWS, depth], and anything into the others.

    w are the LEAF columns of a leaf, in blocks [block, depth, WIDTH].
    """
    depth, x_at, y_first = blocks.shape[1], x.ctypes.data, y.ctypes.data
    w_first = blocks.ctypes.data + SIZE * LEAF * depth * leaf
    for block in range(LEAF // WIDTH):
        w_at, y_at = w_first + SIZE * WIDTH * depth * block, y_first + SIZE * WIDTH * block
        if rows == 1:
            _one(x_at, depth, w_at, WIDTH, y_at, LEAF, depth)
        else:
            _many(x_at, depth, w_at, WIDTH, y_at, LEAF, depth)


@njit(nogil=True, cache=True)
def below(x, row, column, limit):
    """Which of LANES values of x [row, LEAF] from a column on are not greater than a float32: a bit each."""
    return _below(x.ctypes.data + SIZE * (LEAF * row + column), limit)


@njit(nogil=True, cache=True)
def lowest(bits):
    """The place of the lowest bit that is set, of an int64 that is not 0."""
    return _lowest(bits)


@njit(nogil=True, cache=True)
def product(x, row, w):
    """Of the beginning of a row of x [row, at least width] and w [width], a multiple of WIDTH."""
    return _product(x.ctypes.data + SIZE * x.shape[1] * row, w.ctypes.data, len(w))


@njit(nogil=True, cache=True)
def square_sum(x, row, width):
    """Of the first `width`, a multiple of WIDTH, of a row of x."""
    start = x.ctypes.data + SIZE * x.shape[1] * row
    return _product(start, start, width)
