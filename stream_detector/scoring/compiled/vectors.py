"""What the innermost loops are built from: vectors of float32, in LLVM's intermediate code.

Addresses are int64; strides are in values, not in bytes.
"""

# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = [
    "BYTE",
    "INDEX",
    "LANES",
    "NOTHING",
    "OCTET",
    "ROWS",
    "SIZE",
    "VECTOR",
    "VECTORS",
    "WHOLE",
    "WIDTH",
    "WORD",
    "Values",
    "at",
    "emit_loop",
    "fused",
    "greater",
    "halves",
    "in_every_lane",
    "less",
    "load",
    "places",
    "spread",
    "store",
    "vectors",
]

LANES = 8  # float32 values in a vector; processors with other registers split or pair them
VECTORS = 2
WIDTH = LANES * VECTORS  # columns of a block: outputs come in whole multiples
ROWS = 6  # of a block: its sums, two vectors a row, fill the registers
SIZE = 4  # bytes a value

FLOAT, WORD, INDEX, BYTE = ir.FloatType(), ir.IntType(64), ir.IntType(32), ir.IntType(8)
VECTOR, WHOLE, OCTET = (ir.VectorType(kind, LANES) for kind in (FLOAT, INDEX, BYTE))
NOTHING = ir.Constant(VECTOR, [0.0] * LANES)
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
    """All lanes joined into one value: half with half, again and again."""
    for width in (LANES // 2, LANES // 4, LANES // 8):
        places = [(lane + width) % LANES for lane in range(LANES)]
        mask = ir.Constant(ir.VectorType(INDEX, LANES), places)
        vector = join(vector, builder.shuffle_vector(vector, vector, mask))
    return builder.extract_element(vector, INDEX(0))
