"""The innermost steps of finding the least, written out: what is compared, in vectors, and what is left of it."""

# mypy: disable-error-code="no-untyped-call"

from collections.abc import Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from stream_detector.gan.memory import LEAF
from stream_detector.scoring.compiled.vectors import (
    BYTE,
    INDEX,
    LANES,
    NOTHING,
    OCTET,
    SIZE,
    WHOLE,
    WORD,
    Values,
    at,
    emit_loop,
    greater,
    in_every_lane,
    less,
    load,
    spread,
    store,
    vectors,
)

__all__ = ["append", "least_of_lanes", "lower", "not_above", "outside", "trailing"]


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
    """How far vectors lie outside an interval."""
    values = [load(builder, place) for place in places]
    sides = [greater(builder, builder.fsub(low, value), builder.fsub(value, high)) for value in values]
    return [greater(builder, side, NOTHING) for side in sides]


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
