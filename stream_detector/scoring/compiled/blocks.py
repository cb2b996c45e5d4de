"""The innermost loops of products, written out, for a compiler does not find them in loops.

An element is one chain of fused multiply-adds along the depth, in order, in blocks that fill the vector registers.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from stream_detector.scoring.compiled.vectors import (
    NOTHING,
    ROWS,
    VECTORS,
    WIDTH,
    WORD,
    Values,
    at,
    emit_loop,
    greater,
    halves,
    in_every_lane,
    load,
    places,
    spread,
    store,
    vectors,
)

__all__ = ["gathered_block", "many", "one", "product_of"]


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
        sums = _emit_sums(builder, inputs, (w, WORD(WIDTH)), [NOTHING] * (ROWS * VECTORS), depth)
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

        sums = emit_loop(builder, terms, [NOTHING] * VECTORS, length, WIDTH)
        return halves(builder, reduce(builder.fadd, sums), builder.fadd)

    return types.float32(x, w, length), emit
