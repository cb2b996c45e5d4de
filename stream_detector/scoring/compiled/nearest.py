"""The nearest kept records of each row."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from stream_detector.scoring.compiled.numbers import FARTHER, NOWHERE, compiled
from stream_detector.scoring.compiled.products import CLASSES, ROWS, least_by_class, multiply_blocks

__all__ = ["find_nearest"]


@compiled
def find_nearest(kept, view, own, first, room, rows):
    """The nearest kept records' slots into room.nearest, the nearest first."""
    distances = room.distances.reshape(len(room.distances), room.distances.shape[1] // CLASSES, CLASSES)
    for start in range(0, rows, ROWS):
        group = min(ROWS, rows - start)
        multiply_blocks(room.query, kept.keys[view], room.distances, start, group)
        for row in range(group):
            if own[first + start + row] >= 0:
                room.distances[row, own[first + start + row]] = NOWHERE
            _choose(distances[row], room.least, room.nearest[start + row])


@compiled
def _choose(distances, least, found):
    """The slots of the three least distances [slot / CLASSES, class]: they are in the classes with the least minima."""
    least_by_class(distances, least)
    best, classes = (FARTHER, FARTHER, FARTHER), (0, 0, 0)
    for column in range(CLASSES):
        if least[column] < best[2]:
            best, classes = _inserted(best, classes, least[column], column)
    best, slots = (FARTHER, FARTHER, FARTHER), (0, 0, 0)
    for column in classes:
        for block in range(len(distances)):
            if distances[block, column] <= best[2]:
                best, slots = _inserted(best, slots, distances[block, column], block * CLASSES + column)
    found[0], found[1], found[2] = slots


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
