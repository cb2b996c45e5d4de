"""The table of one epoch: what is known of each entity of a partition, in arrays that compiled code reads and teaches.

A table holds a fixed number of entities at most. The one that was taught the longest ago makes room; its
order is that of the log, so that every reader of a log evicts the same.
"""

# mypy: disable-error-code="call-arg, no-untyped-def, no-untyped-call, untyped-decorator"

from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from stream_detector.context.spec import HOURS, NO_TIME, RECENT, WEEKDAYS
from stream_detector.scoring.compiled.arithmetic import borrowing, inlined

__all__ = ["ABSENT", "BLOCKS", "LANES", "EpochTable", "ask_for", "empty", "find", "fitted", "make_room"]

ABSENT: Final = -1
SMALLEST = 64  # entities that a new table has room for

LINE: Final = 16  # entries of a cache line
BLOCKS: Final = 3  # of records that are full, of the four that the long mean looks back
LANES: Final = 8  # features that lie side by side: as many float32 as a register holds

# Where the rows of a tile begin, in `EpochTable.values` [place, tile, entry].
# What each record teaches comes first. Relative to the entity's origin, in the input's units, or counts:
LEVEL, VARIANCE, SLOW, COUNT = range(0, 4 * LANES, LANES)
# Sums and counts of values, of the block of records that is being filled, and of the full ones before it:
PART, PART_COUNT, FULL, FULL_COUNT = range(4 * LANES, 8 * LANES, LANES)
# In the entity's own spreads: the residual to what is usual, and sums of an hour:
RESIDUAL, VISIT, VISIT_COUNT = range(8 * LANES, 11 * LANES, LANES)
LAST = 11 * LANES  # the last values, in a ring, like the level
# Sums of each full block in a ring, and their counts likewise.
BLOCK = LAST + RECENT * LANES
BLOCK_COUNT = BLOCK + BLOCKS * LANES
# In own spreads: sums of a day, and what is usual on each weekday and in each hour.
DAY = BLOCK_COUNT + BLOCKS * LANES
DAY_COUNT, WEEKDAY = DAY + LANES, DAY + 2 * LANES
HOUR = WEEKDAY + WEEKDAYS * LANES
ENTRIES = HOUR + HOURS * LANES

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
    origin: NDArray[np.float64]  # [place, tile, lane]: the first value of a feature, in the input's units
    values: NDArray[np.float32]  # [place, tile, entry]
    times: NDArray[np.int64]  # [place, column]
    gaps: NDArray[np.float64]  # [place, column]
    figures: NDArray[np.int64]


def empty(features: int, entities: int) -> EpochTable:
    """A table that knows nobody, with room for the first few of `entities`."""
    room, tiles = min(SMALLEST, entities), -(-features // LANES)
    return EpochTable(
        np.full(room, ABSENT, np.int32),
        np.full(room, ABSENT, np.int64),
        np.full(room, ABSENT, np.int32),
        np.full(room, ABSENT, np.int32),
        np.zeros((room, tiles, LANES)),
        np.zeros((room, tiles, ENTRIES), np.float32),
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


@inlined
def find(table, entity):
    """The place of an entity, or `ABSENT`."""
    return table.place_of[entity]


@borrowing
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
    table.values[place, :, :HOUR] = np.float32(0)
    table.values[place, :, HOUR:] = np.float32(np.nan)
    table.origin[place] = np.nan
    table.times[place] = NO_TIME
    table.times[place, LATE_COUNT] = 0
    table.times[place, RECORDS] = 0
    table.gaps[place] = 0.0
    _link(table, place)
    return place


@intrinsic
def _ask_for(_typing: Any, values: Any, _place: Any, _entry: Any) -> Any:
    """Has the processor fetch the cache line of an entry of a place, without waiting."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        stride = builder.extract_value(array.strides, 0)
        at = builder.add(builder.mul(arguments[1], stride), builder.mul(arguments[2], array.itemsize))
        byte = builder.bitcast(array.data, ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        to = ir.FunctionType(ir.VoidType(), [byte.type, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, to, "llvm.prefetch.p0i8")
        builder.call(fetch, [builder.gep(byte, [at]), number(1), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(values, types.int64, types.int64), emit


@inlined
def ask_for(table, entity, hour, end):
    """Has the processor fetch what a record of this entity and hour will need: of a tile, the entries before `end`."""
    place = table.place_of[entity] if entity >= 0 else ABSENT
    if place == ABSENT:
        return
    for tile in range(table.values.shape[1]):
        for entry in range(0, end, LINE):
            _ask_for(table.values, place, tile * ENTRIES + entry)
        _ask_for(table.values, place, tile * ENTRIES + HOUR + hour % HOURS * LANES)
        _ask_for(table.origin, place, tile * LANES)
    _ask_for(table.times, place, 0)
    _ask_for(table.gaps, place, 0)


@inlined
def touch(table, place):
    """The entity at this place is the one taught last."""
    if table.figures[NEWEST] != place:
        _unlink(table, place)
        _link(table, place)


@inlined
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


@inlined
def _link(table, place):
    newest = table.figures[NEWEST]
    table.older[place] = newest
    table.newer[place] = ABSENT
    if newest == ABSENT:
        table.figures[OLDEST] = place
    else:
        table.newer[newest] = place
    table.figures[NEWEST] = place
