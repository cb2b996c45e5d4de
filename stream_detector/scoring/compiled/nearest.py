"""The nearest kept records of each row: exact, though most leaves of them are never looked at.

No record of a leaf is nearer than its box. So a row is compared with the leaf whose box is nearest, and then with those
whose boxes are no farther than the third record found so far. Leaf after leaf, for a leaf stays in the cache.

What is found is kept as a number each, in the order of distances and then of positions: to keep the least three of
numbers takes no decision that a processor could not foresee.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import numpy as np

from stream_detector.gan.memory import LEAF, NEAR
from stream_detector.scoring.compiled.leaves import Leaves
from stream_detector.scoring.compiled.numbers import FARTHER, NOTHING, compiled
from stream_detector.scoring.compiled.products import (
    LANES,
    ROWS,
    choose,
    least,
    lowest,
    measure_gaps,
    multiply_leaf,
    within,
)

__all__ = ["find_nearest"]

FEW = 8  # rows from which bounds cost less than they spare
ROUNDING = np.float32(8 * 2**-24)  # of squared lengths and a column: more than distance and bound may be off together
HALF = 32  # bits of a number that are the position
POSITION = (1 << HALF) - 1
MAGNITUDE = 0x7FFFFFFF  # bits of a float32 but its sign
NOBODY = int(FARTHER.view(np.int32)) << HALF  # found too far off, at position 0


@compiled
def find_nearest(kept, view, own, first, room, rows):
    """The nearest kept records' positions into room.nearest, the nearest first."""
    leaves = Leaves(kept.keys[view], kept.slots[view], kept.low[view], kept.high[view], kept.size[view])
    _forget(room, rows)
    if rows < FEW:
        room.bounds[:, :rows] = -FARTHER
    else:
        _bound(leaves, room, rows)
    # Arrays by themselves: to hand on what holds two dozen costs more than to compare a leaf with a row.
    keys, slots, query, distances, lanes = leaves.keys, leaves.slots, room.query, room.distances, room.lanes
    bounds, chosen, third, found = room.bounds, room.chosen, room.third, room.found
    _group(room.home, bounds, room.ends, room.grouped, rows)
    start = 0
    for leaf in range(len(bounds)):
        end = room.ends[leaf]
        _compare(keys, slots, leaf, own, first, query, distances, lanes, room.grouped, start, end, third, found)
        start = end
    for leaf in range(len(bounds)):
        count = choose(bounds[leaf], third, rows, chosen)
        _compare(keys, slots, leaf, own, first, query, distances, lanes, chosen, 0, count, third, found)
    for row in range(rows):
        for place in range(NEAR):
            room.nearest[row, place] = found[place, row] & POSITION


@compiled
def _forget(room, rows):
    """Nothing is found, and all are at home in the first leaf."""
    for row in range(rows):
        room.home[row], room.third[row] = 0, FARTHER
        for place in range(NEAR):
            room.found[place, row] = NOBODY


@compiled
def _bound(leaves, room, rows):
    """What no record of a leaf is nearer than, into room.bounds, and the leaf with the least of that into room.home.

    As the keys have it: a squared distance, short of the query's own squared length.
    """
    spare, least = room.spans[0], room.spans[1]
    depth = len(leaves.low)
    for row in range(rows):
        length = NOTHING
        for column in range(depth):
            value = room.query[row, column]
            room.turned[column, row] = value
            length += value * value
        spare[row] = -length - ROUNDING * np.float32(depth) * (length + leaves.size)
        least[row] = FARTHER
    for leaf in range(len(room.bounds)):
        bounds = room.bounds[leaf]
        measure_gaps(room.turned, leaves.low, leaves.high, leaf, spare, bounds, least, room.home, rows)


@compiled
def _group(home, bounds, ends, grouped, rows):
    """The rows by their home into `grouped`, those of a leaf up to `ends` [leaf], never to be chosen for it again."""
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
    """Compares a leaf with the rows chosen from `start` to `end`, some at once."""
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
    """What at least four distances of a row to a leaf are not greater than: three, were one of them its own record."""
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
    """Puts what is nearer in its place among the least three of a row."""
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
    """A distance, as its bits have it, and a position in one int64, in the order of the two."""
    return (np.int64(_ascending(word)) << HALF) | slot


@compiled
def _ascending(word):
    """The bits of a float32 as an int32 in the order of the values, and back."""
    return np.int32(word ^ ((word >> np.int32(31)) & np.int32(MAGNITUDE)))
