"""Matrix products whose every row is computed alike, whatever the other rows are.

A library's last bits depend on how many rows a product has and on the processor. Here an element is
one chain of fused multiply-adds along the depth, in order, in blocks that fill the vector registers:
as fast as a tuned library on narrow matrices, equal to the bit for one row and for many. LLVM's
intermediate code says it directly, for a compiler does not find it in loops.
"""

# mypy: disable-error-code="call-arg, no-untyped-def, no-untyped-call"

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["CLASSES", "ROWS", "WIDTH", "least_by_class", "multiply", "multiply_blocks", "multiply_triangle"]

LANES = 8  # float32 values in a vector; processors with other registers split or pair them
VECTORS = 2
WIDTH = LANES * VECTORS  # columns of a block: outputs come in whole multiples
CLASSES = 64  # columns of which the least are found at once
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
    fused = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32"
    )
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
    added = [builder.call(fused, [*term, total]) for term, total in zip(terms, sums, strict=True)]
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


def _at(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value) -> ir.Value:
    return builder.add(base, builder.mul(offset, WORD(SIZE)))


def _load(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    loaded = builder.load(builder.inttoptr(address, ADDRESS))
    loaded.align = SIZE
    return loaded


def _spread(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    """The value at an address in every lane."""
    value = builder.load(builder.inttoptr(address, FLOAT.as_pointer()))
    nothing = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, value, INDEX(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INDEX, LANES), [0] * LANES))


def _emit_least(builder: ir.IRBuilder, start: ir.Value, count: ir.Value, target: ir.Value) -> None:
    places = [WORD(SIZE * LANES * place) for place in range(CLASSES // LANES)]
    before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
    first = [_load(builder, builder.add(start, place)) for place in places]
    builder.branch(loop)
    builder.position_at_end(loop)
    line = builder.phi(WORD)
    line.add_incoming(WORD(0), before)
    known = [builder.phi(VECTOR) for _ in places]
    base = _at(builder, start, builder.mul(line, WORD(CLASSES)))
    pairs = [(_load(builder, builder.add(base, place)), old) for place, old in zip(places, known, strict=True)]
    less = [builder.select(builder.fcmp_ordered("<", value, old), value, old) for value, old in pairs]
    for old, begun, new in zip(known, first, less, strict=True):
        old.add_incoming(begun, before)
        old.add_incoming(new, loop)
    following = builder.add(line, WORD(1))
    line.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    for place, new in zip(places, less, strict=True):
        builder.store(new, builder.inttoptr(builder.add(target, place), ADDRESS)).align = SIZE


@intrinsic
def _least_by_address(_typing: Any, values: Any, lines: Any, least: Any) -> tuple[Any, Any]:
    def emit(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Sequence[ir.Value]) -> Any:
        _emit_least(builder, *arguments)
        return context.get_dummy_value()

    return types.void(values, lines, least), emit


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
def least_by_class(values, least):
    """Writes the least of each column of values [line, CLASSES], float32 and contiguous, into least [CLASSES]."""
    _least_by_address(values.ctypes.data, len(values), least.ctypes.data)


@njit(nogil=True, cache=True)
def multiply_blocks(x, blocks, y, first, rows):
    """As `multiply` for `rows` rows of x from `first` on, the right side block by block [block, depth, WIDTH]."""
    depth = blocks.shape[1]
    x_stride, y_stride = x.shape[1], y.shape[1]
    x_first, w_first, y_first = x.ctypes.data + SIZE * first * x_stride, blocks.ctypes.data, y.ctypes.data
    for block in range(len(blocks)):
        w_at, y_at = w_first + SIZE * WIDTH * depth * block, y_first + SIZE * WIDTH * block
        if rows == ROWS:
            _many(x_first, x_stride, w_at, WIDTH, y_at, y_stride, depth)
        else:
            for row in range(rows):
                _one(
                    x_first + SIZE * row * x_stride,
                    x_stride,
                    w_at,
                    WIDTH,
                    y_at + SIZE * row * y_stride,
                    y_stride,
                    depth,
                )
