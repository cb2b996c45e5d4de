"""The table of one epoch: what is known of each entity of a partition, in arrays that compiled code reads and teaches.

A table holds a fixed number of entities at most. The one that was taught the longest ago makes room; its
order is that of the log, so that every reader of a log evicts the same.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.context.spec import HOURS, NO_TIME, RECENT, WEEKDAYS
from stream_detector.scoring.compiled.arithmetic import compiled

__all__ = ["ABSENT", "EpochTable", "empty", "find", "fitted", "make_room"]

ABSENT: Final = -1
SMALLEST = 64  # entities that a new table has room for

# LogRows of `EpochTable.values` [entity, row, feature]; all but the counts are relative to the entity's origin.
LEVEL, VARIANCE, COUNT, LONG, RESIDUAL = range(5)
VISIT, VISIT_COUNT, DAY, DAY_COUNT = range(5, 9)
LAST = 9  # and the next seven: the last values, in a ring
WEEKDAY = LAST + RECENT
HOUR = WEEKDAY + WEEKDAYS
ROWS = HOUR + HOURS

# Columns of `EpochTable.times` [entity, column]
CLOCK, LATE, LATE_COUNT, HOUR_NOW, RECORDS = range(5)
# Columns of `EpochTable.gaps` [entity, column]: nanoseconds
USUAL_GAP, SHORT_GAP = range(2)
# Entries of `EpochTable.figures`
NEWEST, OLDEST, USED, EVICTED, LATE_RECORDS = range(5)


class EpochTable(NamedTuple):
    """Arrays of one epoch's table. An entity has a number in the partition, and a place in the table or none."""

    place_of: NDArray[np.int32]  # [number of an entity]
    entity_at: NDArray[np.int64]  # [place]
    older: NDArray[np.int32]  # [place]: the one taught before it
    newer: NDArray[np.int32]
    origin: NDArray[np.float64]  # [place, feature]: the first value, in the input's units
    values: NDArray[np.float32]  # [place, row, feature]
    times: NDArray[np.int64]  # [place, column]
    gaps: NDArray[np.float64]  # [place, column]
    figures: NDArray[np.int64]


def empty(features: int, entities: int) -> EpochTable:
    """A table that knows nobody, with room for the first few of `entities`."""
    room = min(SMALLEST, entities)
    return EpochTable(
        np.full(room, ABSENT, np.int32),
        np.full(room, ABSENT, np.int64),
        np.full(room, ABSENT, np.int32),
        np.full(room, ABSENT, np.int32),
        np.zeros((room, features)),
        np.zeros((room, ROWS, features), np.float32),
        np.full((room, 5), NO_TIME, np.int64),
        np.zeros((room, 2)),
        np.array([ABSENT, ABSENT, 0, 0, 0], np.int64),
    )


def fitted(table: EpochTable, numbers: int, newcomers: int, most: int) -> EpochTable:
    """The table with room for `newcomers` more, of `most` in all, and for entities numbered below `numbers`."""
    used, room = int(table.figures[USED]), len(table.entity_at)
    wanted = min(most, used + newcomers)
    if numbers > len(table.place_of):
        table = table._replace(place_of=_longer(table.place_of, max(numbers, 2 * len(table.place_of)), ABSENT))
    if wanted <= room:
        return table
    room = min(most, max(wanted, 2 * room))
    return table._replace(
        entity_at=_longer(table.entity_at, room, ABSENT),
        older=_longer(table.older, room, ABSENT),
        newer=_longer(table.newer, room, ABSENT),
        origin=_longer(table.origin, room, 0),
        values=_longer(table.values, room, 0),
        times=_longer(table.times, room, NO_TIME),
        gaps=_longer(table.gaps, room, 0),
    )


def _longer(array, length, filler):
    out = np.full((length, *array.shape[1:]), filler, array.dtype)
    out[: len(array)] = array
    return out


@compiled
def find(table, entity):
    """The place of an entity, or `ABSENT`."""
    return table.place_of[entity]


@compiled
def make_room(table, entity):
    """A place for an entity that has none: a free one, or that of the entity taught the longest ago."""
    figures = table.figures
    if figures[USED] < len(table.entity_at):
        place = np.int32(figures[USED])
        figures[USED] += 1
    else:
        place = np.int32(figures[OLDEST])
        figures[EVICTED] += 1
        table.place_of[table.entity_at[place]] = ABSENT
        _unlink(table, place)
    table.entity_at[place] = entity
    table.place_of[entity] = place
    table.values[place, :HOUR] = np.float32(0)
    table.values[place, LAST:] = np.float32(np.nan)
    table.times[place] = NO_TIME
    table.times[place, LATE_COUNT] = 0
    table.times[place, RECORDS] = 0
    table.gaps[place] = 0.0
    _link(table, place)
    return place


@compiled
def touch(table, place):
    """The entity at this place is the one taught last."""
    if table.figures[NEWEST] != place:
        _unlink(table, place)
        _link(table, place)


@compiled
def _unlink(table, place):
    older, newer = table.older[place], table.newer[place]
    if newer == ABSENT:
        table.figures[NEWEST] = older
    else:
        table.older[newer] = older
    if older == ABSENT:
        table.figures[OLDEST] = newer
    else:
        table.newer[older] = newer


@compiled
def _link(table, place):
    newest = table.figures[NEWEST]
    table.older[place] = newest
    table.newer[place] = ABSENT
    if newest == ABSENT:
        table.figures[OLDEST] = place
    else:
        table.newer[newest] = place
    table.figures[NEWEST] = place
