"""The nearest kept records of each row: exact, though most leaves of them are never looked at.

The kept records lie in the leaves of a balanced k-d tree (Bentley 1975), of which only the leaves and the box about each
are kept. No record of a leaf is nearer than its box. So a row is compared with the leaf whose box is nearest, and then
with those whose boxes are no farther than the third record found so far. Leaf after leaf, for a leaf stays in the cache.
The tree decides what is looked at, never what is found.

A record found is one number: its distance, then its position. To keep the least three numbers takes no branch that a
processor could mispredict.
"""

# mypy: disable-error-code="call-arg, no-untyped-def, no-untyped-call, untyped-decorator"

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.gan.memory import LEAF, NEAR
from stream_detector.scoring.compiled.arithmetic import FARTHER, ONE, ZERO, Array, compiled
from stream_detector.scoring.compiled.simd import (
    LANES,
    ROWS,
    SIZE,
    WIDTH,
    append,
    gathered_block,
    least_of_lanes,
    lower,
    not_above,
    one,
    outside,
    trailing,
)

__all__ = ["Leaves", "choose", "find_nearest", "least", "lowest", "measure_gaps", "multiply_leaf", "within"]

assert NEAR == 3, "_fourth and _keep write three neighbours out"
assert ROWS == 6, "multiply_leaf writes six rows out"

FEW = 8  # rows from which bounds cost less than they spare
ROUNDING = np.float32(8 * 2**-24)  # of squared lengths and a column: more than distance and bound may be off together
HALF = 32  # bits of a number that are the position
POSITION = (1 << HALF) - 1
MAGNITUDE = 0x7FFFFFFF  # bits of a float32 but its sign
NOBODY = int(FARTHER.view(np.int32)) << HALF  # found too far off, at position 0
BLANK = np.zeros(WIDTH, np.float32)


class Leaves(NamedTuple):
    """The kept records of one view: `keys` [block of slots, column, WIDTH], leaf after leaf, and the record in each slot.

    `slots` [slot] holds those records' positions; `low` and `high` [column, leaf] are the corners of a leaf's box; `size` is the greatest squared length of a record.
    """

    keys: Array
    slots: NDArray[np.int64]
    low: Array
    high: Array
    size: np.float32

    @classmethod
    def of(cls, keys: Array, count: int) -> "Leaves":
        """Makes the leaves of a memory's keys [column, slot] of `count` records, whose empty slots come last and stay there."""
        known = keys[:-1, :count].T / np.float32(-2)
        order = _ordered(known, np.arange(count))
        boxes = [known[order[first : first + LEAF]] for first in range(0, count, LEAF)]
        slots = np.concatenate((order, np.arange(count, keys.shape[1])))
        blocks = keys[:, slots].reshape(len(keys), -1, WIDTH).transpose(1, 0, 2)
        return cls(
            np.ascontiguousarray(blocks),
            slots,
            np.stack([box.min(0) for box in boxes], 1),
            np.stack([box.max(0) for box in boxes], 1),
            keys[-1, :count].max(),
        )


def _ordered(known: Array, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows, leaf after leaf; only the last one may be short."""
    if len(rows) <= LEAF:
        return rows
    widest = known[rows].var(0).argmax()
    rows = rows[np.argsort(known[rows, widest], kind="stable")]
    middle = LEAF * -(-len(rows) // (2 * LEAF))
    return np.concatenate((_ordered(known, rows[:middle]), _ordered(known, rows[middle:])))


@compiled
def find_nearest(kept, view, own, first, workspace, rows):
    """Writes the nearest kept records' positions into workspace.nearest, the nearest first."""
    leaves = Leaves(kept.keys[view], kept.slots[view], kept.low[view], kept.high[view], kept.size[view])
    _forget(workspace, rows)
    if rows < FEW:
        workspace.bounds[:, :rows] = -FARTHER
    else:
        _bound(leaves, workspace, rows)
    # Arrays are handed on one by one: to hand on the workspace costs more than to compare a leaf with a row.
    keys, slots, query, distances, lanes = (
        leaves.keys,
        leaves.slots,
        workspace.query,
        workspace.distances,
        workspace.lanes,
    )
    bounds, chosen, third, found = workspace.bounds, workspace.chosen, workspace.third_distance, workspace.found
    _group(workspace.home_leaf, bounds, workspace.ends, workspace.grouped, rows)
    start = 0
    for leaf in range(len(bounds)):
        end = workspace.ends[leaf]
        _compare(keys, slots, leaf, own, first, query, distances, lanes, workspace.grouped, start, end, third, found)
        start = end
    for leaf in range(len(bounds)):
        count = choose(bounds[leaf], third, rows, chosen)
        _compare(keys, slots, leaf, own, first, query, distances, lanes, chosen, 0, count, third, found)
    for row in range(rows):
        for place in range(NEAR):
            workspace.nearest[row, place] = found[place, row] & POSITION


@compiled
def _forget(workspace, rows):
    """Marks all rows as having found nothing, with the first leaf as their home."""
    for row in range(rows):
        workspace.home_leaf[row], workspace.third_distance[row] = 0, FARTHER
        for place in range(NEAR):
            workspace.found[place, row] = NOBODY


@compiled
def _bound(leaves, workspace, rows):
    """Writes what no record of a leaf is nearer than into workspace.bounds, and the leaf where that is least into home_leaf.

    A bound is, as the product with a key, a squared distance less the query's own squared length.
    """
    spare, least = workspace.bound_start, workspace.least_bound
    depth = len(leaves.low)
    for row in range(rows):
        length = ZERO
        for column in range(depth):
            value = workspace.query[row, column]
            workspace.query_columns[column, row] = value
            length += value * value
        spare[row] = -length - ROUNDING * np.float32(depth) * (length + leaves.size)
        least[row] = FARTHER
    for leaf in range(len(workspace.bounds)):
        bounds = workspace.bounds[leaf]
        measure_gaps(
            workspace.query_columns, leaves.low, leaves.high, leaf, spare, bounds, least, workspace.home_leaf, rows
        )


@compiled
def _group(home, bounds, ends, grouped, rows):
    """Sorts the rows by their home into `grouped`, those of a leaf up to `ends` [leaf], and never chooses them for it again."""
    ends[:] = 0
    for row in range(rows):
        ends[home[row]] += 1
    for leaf in range(1, len(ends)):
        ends[leaf] += ends[leaf - 1]
    for row in range(rows - 1, -1, -1):
        leaf = home[row]
        ends[leaf] -= 1
        grouped[ends[leaf]] = row
        bounds[leaf, row] = np.float32(np.inf)
    for leaf in range(len(ends) - 1):
        ends[leaf] = ends[leaf + 1]
    ends[len(ends) - 1] = rows


@compiled
def _compare(keys, slots, leaf, own, first, query, distances, lanes, chosen, start, end, third, found):
    """Compares a leaf with the rows chosen from `start` to `end`, ROWS at a time."""
    words, limits = distances.view(np.int32), third.view(np.int32)
    for some in range(start, end, ROWS):
        rows = min(ROWS, end - some)
        multiply_leaf(query, chosen, some, rows, keys, leaf, distances)
        for place in range(rows):
            row = chosen[some + place]
            limit = third[row]
            if limit == FARTHER:
                limit = _fourth(distances, place, lanes)
            near = within(distances, place, limit)
            if near:
                _keep(near, words[place], slots, leaf, own[first + row], limits, found, row)


@compiled
def _fourth(distances, place, lanes):
    """The fourth of the least distances of a row by lanes: at least three records besides the row's own are no farther."""
    least(distances, place, lanes)
    a = b = c = d = FARTHER
    for lane in range(LANES):
        value = lanes[lane]
        d = min(d, max(c, value))
        c = min(c, max(b, value))
        b = min(b, max(a, value))
        a = min(a, value)
    return d


@compiled
def _keep(near, words, slots, leaf, own, limits, found, row):
    """Puts each nearer record in its place among the least three of a row."""
    a, b, c = found[0, row], found[1, row], found[2, row]
    while near:
        column = lowest(near)
        near &= near - 1
        slot = slots[leaf * LEAF + column]
        if slot != own:
            new = _number(words[column], slot)
            c = min(c, max(b, new))
            b = min(b, max(a, new))
            a = min(a, new)
    found[0, row], found[1, row], found[2, row] = a, b, c
    limits[row] = _ascending(np.int32(c >> HALF))


@compiled
def _number(word, slot):
    """The bits of a distance and a position in one int64, ordered by the two."""
    return (np.int64(_ascending(word)) << HALF) | slot


@compiled
def _ascending(word):
    """The bits of a float32 as an int32 in the order of the values; applied twice, the bits again."""
    return np.int32(word ^ ((word >> np.int32(31)) & np.int32(MAGNITUDE)))


@compiled
def multiply_leaf(x, chosen, first, rows, blocks, leaf, y):
    """Writes x[chosen[first : first + rows]] @ w into y [ROWS, LEAF], at most ROWS rows; into the others, anything.

    w are the LEAF columns of a leaf, in blocks [block, depth, WIDTH]. `chosen` has ROWS numbers of rows from `first` on.
    """
    depth, y_first = blocks.shape[1], y.ctypes.data
    w_first = blocks.ctypes.data + SIZE * LEAF * depth * leaf
    a, b, c, d, e, f = _rows_at(x, chosen, first)
    for block in range(LEAF // WIDTH):
        w_at, y_at = w_first + SIZE * WIDTH * depth * block, y_first + SIZE * WIDTH * block
        if rows == 1:
            one(a, depth, w_at, WIDTH, BLANK.ctypes.data, 0, ONE, y_at, LEAF, depth)
        else:
            gathered_block(a, b, c, d, e, f, w_at, y_at, LEAF, depth)


@compiled
def _rows_at(x, chosen, first):
    """The addresses of ROWS rows of x, from number `first` of `chosen` on."""
    start, stride = x.ctypes.data, SIZE * x.shape[1]
    return (
        start + stride * chosen[first],
        start + stride * chosen[first + 1],
        start + stride * chosen[first + 2],
        start + stride * chosen[first + 3],
        start + stride * chosen[first + 4],
        start + stride * chosen[first + 5],
    )


@compiled
def measure_gaps(x, low, high, box, start, y, least, which, rows):
    """Writes start + the squared distances from a box into the first `rows` values of y; where they are the least so
    far, into `least` [row], too, and the box's number into `which` int32 [row].

    x [depth, row], `low` and `high` [depth, box], `start` [row]. Whole WIDTHs of rows are written.
    """
    depth, x_stride, stride = x.shape[0], x.shape[1], low.shape[1]
    low_at, high_at = low.ctypes.data + SIZE * box, high.ctypes.data + SIZE * box
    for row in range(0, rows, WIDTH):
        moved = SIZE * row
        y_at = y.ctypes.data + moved
        outside(x.ctypes.data + moved, x_stride, low_at, high_at, stride, start.ctypes.data + moved, y_at, depth)
        lower(y_at, box, least.ctypes.data + moved, which.ctypes.data + moved)


@compiled
def choose(values, limits, rows, chosen):
    """The first `rows` places where a value is not above its limit into `chosen`, int32; how many.

    `chosen` has room for LANES more; what lies behind the last is some place.
    """
    count = 0
    for row in range(0, rows, LANES):
        values_at, limits_at = values.ctypes.data + SIZE * row, limits.ctypes.data + SIZE * row
        count += append(values_at, limits_at, row, chosen.ctypes.data + SIZE * count)
    while count and chosen[count - 1] >= rows:
        count -= 1
    return count


@compiled
def within(x, row, limit):
    """Marks the values of a row of x [row, LEAF] that are not greater than a float32: a bit each, of an int64."""
    return not_above(x.ctypes.data + SIZE * LEAF * row, limit)


@compiled
def least(x, row, into):
    """The least of every LANES-th value of a row of x [row, LEAF] into `into` [LANES]."""
    least_of_lanes(x.ctypes.data + SIZE * LEAF * row, into.ctypes.data)


@compiled
def lowest(bits):
    """The place of the lowest bit that is set, of an int64 that is not 0."""
    return trailing(bits)
