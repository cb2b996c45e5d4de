"""The nearest kept records of each row: exact, though most leaves of them are never looked at.

No record of a leaf is nearer than its box. So a row is compared with the leaf whose box is nearest, and then with those
whose boxes are no farther than the third record found so far. Leaf after leaf, for a leaf stays in the cache.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import numpy as np

from stream_detector.scoring.compiled.leaves import Leaves
from stream_detector.scoring.compiled.numbers import FARTHER, NOTHING, compiled
from stream_detector.scoring.compiled.products import LANES, ROWS, below, lowest, multiply_leaf
from stream_detector.scoring.memory import LEAF, NEAR

__all__ = ["find_nearest"]

FEW = 8  # rows from which bounds cost less than they spare
ROUNDING = np.float32(8 * 2**-24)  # of squared lengths and a column: more than distance and bound may be off together


@compiled
def find_nearest(kept, view, own, first, room, rows):
    """The nearest kept records' positions into room.nearest, the nearest first."""
    leaves = Leaves(kept.keys[view], kept.slots[view], kept.low[view], kept.high[view], kept.size[view])
    _forget(room, rows)
    if rows >= FEW:
        _bound(leaves, room, rows)
    # Arrays by themselves: to hand on what holds two dozen costs more than to compare a leaf with a row.
    keys, slots, query, asked, distances = leaves.keys, leaves.slots, room.query, room.asked, room.distances
    bounds, home, chosen, best, nearest = room.bounds, room.home, room.chosen, room.best, room.nearest
    for leaf in range(len(bounds)):
        count = _choose_at_home(leaf, home, bounds[leaf], chosen, rows)
        _compare(keys, slots, leaf, own, first, query, asked, distances, chosen, count, best, nearest)
    for leaf in range(len(bounds)):
        count = _choose_others(bounds[leaf], best[NEAR - 1], chosen, rows)
        _compare(keys, slots, leaf, own, first, query, asked, distances, chosen, count, best, nearest)


@compiled
def _forget(room, rows):
    """Nothing is found, no leaf is bound, and all are at home in the first."""
    for row in range(rows):
        room.home[row] = 0
        for place in range(NEAR):
            room.best[place, row], room.nearest[row, place] = FARTHER, 0
        for leaf in range(len(room.bounds)):
            room.bounds[leaf, row] = -FARTHER


@compiled
def _bound(leaves, room, rows):
    """What no record of a leaf is nearer than, into room.bounds, and the leaf with the least of that into room.home.

    As the keys have it: a squared distance, short of the query's own squared length.
    """
    depth, count = leaves.low.shape
    spare, least = room.spans[0], room.spans[1]
    for row in range(rows):
        length = NOTHING
        for column in range(depth):
            value = room.query[row, column]
            room.turned[column, row] = value
            length += value * value
        spare[row] = length + ROUNDING * np.float32(depth) * (length + leaves.size)
        least[row] = FARTHER
    for leaf in range(count):
        bounds = room.bounds[leaf]
        for row in range(rows):
            bounds[row] = -spare[row]
        for column in range(depth):
            _add_gap(bounds, room.turned[column], leaves.low[column, leaf], leaves.high[column, leaf], rows)
        for row in range(rows):
            nearer = bounds[row] < least[row]
            least[row] = bounds[row] if nearer else least[row]
            room.home[row] = leaf if nearer else room.home[row]


@compiled
def _add_gap(bounds, values, low, high, rows):
    """How far values lie outside an interval, squared."""
    for row in range(rows):
        outside = max(low - values[row], values[row] - high, NOTHING)
        bounds[row] += outside * outside


@compiled
def _choose_at_home(leaf, home, bounds, chosen, rows):
    """The rows whose home is this leaf into `chosen`, never to be chosen for it again; how many."""
    count = 0
    for row in range(rows):
        if home[row] == leaf:
            chosen[count] = row
            bounds[row] = np.float32(np.inf)
            count += 1
    return count


@compiled
def _choose_others(bounds, third, chosen, rows):
    """The rows that may find something in a leaf into `chosen`; how many."""
    count = 0
    for row in range(rows):
        chosen[count] = row
        count += not bounds[row] > third[row]
    return count


@compiled
def _compare(keys, slots, leaf, own, first, query, asked, distances, chosen, count, best, nearest):
    """Compares a leaf with the chosen rows, some at once."""
    for start in range(0, count, ROWS):
        rows = min(ROWS, count - start)
        _gather(query, chosen, start, asked, rows)
        multiply_leaf(asked, keys, leaf, distances, rows)
        for place in range(rows):
            row = chosen[start + place]
            _keep_nearest(distances, place, slots, leaf, own[first + row], best, nearest, row)


@compiled
def _gather(query, chosen, start, asked, rows):
    for place in range(rows):
        row = chosen[start + place]
        for column in range(query.shape[1]):
            asked[place, column] = query[row, column]


@compiled
def _keep_nearest(distances, place, slots, leaf, own, best, nearest, row):
    """Puts what is nearer in its place among the best of a row."""
    values = best[0, row], best[1, row], best[2, row]
    places = nearest[row, 0], nearest[row, 1], nearest[row, 2]
    for start in range(0, LEAF, LANES):
        near = below(distances, place, start, values[2])
        while near:
            column = start + lowest(near)
            near &= near - 1
            slot = slots[leaf * LEAF + column]
            if slot != own:
                values, places = _inserted(values, places, distances[place, column], slot)
    best[0, row], best[1, row], best[2, row] = values
    nearest[row, 0], nearest[row, 1], nearest[row, 2] = places


@compiled
def _inserted(best, places, value, place):
    """The least three with their places, ordered; of equal values the lower place first."""
    if value < best[2] or (value == best[2] and place < places[2]):
        if value < best[0] or (value == best[0] and place < places[0]):
            return (value, best[0], best[1]), (place, places[0], places[1])
        if value < best[1] or (value == best[1] and place < places[1]):
            return (best[0], value, best[1]), (places[0], place, places[1])
        return (best[0], best[1], value), (places[0], places[1], place)
    return best, places
