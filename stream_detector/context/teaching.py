"""What a record teaches the table of its epoch; compiled.

What is learnt depends on the record's values, its times and its entity's entry alone: never on a score, a
threshold or a model. All arithmetic is of the four operations and the square root, which are exact to the
last bit on every machine; a decay is d / (memory + d), which is the exponential one for small steps d.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.context.pace import read_gap, step, teach_gap
from stream_detector.context.spec import HOURS, NO_TIME, RECENT
from stream_detector.context.spreads import (
    COLUMNS,
    EIGHTH,
    LIMIT,
    WORK,
    Population,
    limited,
    own_spread,
    read,
    relative,
    weekday,
)
from stream_detector.context.table import (
    ABSENT,
    BLOCK,
    BLOCK_COUNT,
    BLOCKS,
    COUNT,
    DAY,
    DAY_COUNT,
    FULL,
    FULL_COUNT,
    HOUR,
    HOUR_NOW,
    LANES,
    LAST,
    LATE_RECORDS,
    LEVEL,
    PART,
    PART_COUNT,
    RECORDS,
    RESIDUAL,
    SLOW,
    VARIANCE,
    VISIT,
    VISIT_COUNT,
    EpochTable,
    ask_for,
    find,
    make_room,
    touch,
)
from stream_detector.scoring.compiled.arithmetic import ONE, ZERO, borrowing, inlined

__all__ = ["COLUMNS", "WORK", "LogRows", "Population", "Rates", "Said", "run", "teach"]

AHEAD = 2  # records whose entries are fetched while one is read and taught
SETTLED = np.float32(8)  # values of a feature before what it may teach is limited, and before it has a season
SEASON_GAIN = np.float32(0.3)  # of the newest day in what is usual at an hour
VALUE, AWAY, CHANGE = range(0, 3 * LANES, LANES)  # entries of the workspace


class LogRows(NamedTuple):
    """Records of one partition in the order of the log."""

    entity: NDArray[np.int64]  # [record]: the number of its entity, or -1
    time: NDArray[np.int64]  # [record]: nanoseconds, or `NO_TIME`
    hour: NDArray[np.int64]  # [record]: local hours since 1970, or `NO_TIME`
    values: NDArray[np.float64]  # [record, tile, lane] in the input's units; NaN is missing, or beyond the features


class Rates(NamedTuple):
    """What of a `ContextSpec` compiled code needs."""

    memory: float
    memory_records: float
    short: int
    medium: int
    block: int  # records
    clip: np.float32
    grace: int
    cap: int


class Said(NamedTuple):
    """What is read of records: beyond the features, columns are of no meaning."""

    columns: NDArray[np.float32]  # [record, column, tile and lane]
    gaps: NDArray[np.float32]  # [record, 2]
    known: NDArray[np.int64]  # [record]: records that the entity had taught


@borrowing
def run(
    rows: LogRows,
    first: int,
    last: int,
    now: EpochTable,
    following: EpochTable,
    teach_following: bool,  # noqa: FBT001 - compiled code takes no names
    rates: Rates,
    work: NDArray[np.float32],
    population: Population,
    out: Said,
) -> None:
    """Reads the columns of records [first, last) from the table `now`, and teaches both tables, record by record.

    What `out` has of gaps is NaN where nothing is known; `work` is a workspace.
    """
    for record in range(first, last):
        entity = rows.entity[record]
        if record + AHEAD < last:
            ask_for(now, rows.entity[record + AHEAD], rows.hour[record + AHEAD], BLOCK)
            if teach_following:
                ask_for(following, rows.entity[record + AHEAD], rows.hour[record + AHEAD], LAST)
        if entity < 0:
            out.columns[record] = np.float32(np.nan)
            continue
        place = find(now, entity)
        if place != ABSENT:
            out.known[record] = now.times[place, RECORDS]
            read(rows, record, now, place, rates, population, work, out.columns)
            read_gap(rows.time[record], now.times[place], now.gaps[place], rates, out.gaps[record])
        else:
            out.columns[record] = np.float32(np.nan)
        _teach(rows, record, now, entity, rates, work)
        if teach_following:
            _teach(rows, record, following, entity, rates, work)


@borrowing
def teach(
    rows: LogRows,
    first: int,
    last: int,
    now: EpochTable,
    following: EpochTable,
    teach_following: bool,  # noqa: FBT001 - compiled code takes no names
    rates: Rates,
    work: NDArray[np.float32],
) -> None:
    """Teaches both tables the records [first, last) as `run` does, and reads no columns."""
    for record in range(first, last):
        entity = rows.entity[record]
        if record + AHEAD < last:
            ask_for(now, rows.entity[record + AHEAD], rows.hour[record + AHEAD], BLOCK)
            if teach_following:
                ask_for(following, rows.entity[record + AHEAD], rows.hour[record + AHEAD], LAST)
        if entity >= 0:
            _teach(rows, record, now, entity, rates, work)
            if teach_following:
                _teach(rows, record, following, entity, rates, work)


@inlined
def _teach(rows, record, table, entity, rates, work):
    place = find(table, entity)
    if place == ABSENT:
        place = make_room(table, entity)
    times, hour = table.times[place], rows.hour[record]
    moved = step(rows.time[record], times, rates)
    if moved < 0:
        table.figures[LATE_RECORDS] += 1
        return
    touch(table, place)
    teach_gap(times, table.gaps[place], moved, rates)
    if hour != times[HOUR_NOW]:
        _end_visit(table, place, times[HOUR_NOW], hour)
        times[HOUR_NOW] = hour
    gain = moved / (rates.memory + moved) if hour != NO_TIME else 1.0 / rates.memory_records
    if times[RECORDS] % rates.block == 0:
        _end_block(table, place, times[RECORDS] // rates.block % BLOCKS * LANES)
    last = LAST + times[RECORDS] % RECENT * LANES
    for tile in range(rows.values.shape[1]):
        _keep(rows, record, table, place, tile, last, work)
        _teach_level(rows, table, place, tile, np.float32(gain), rates, work)
        if hour != NO_TIME:
            _teach_season(rows, table, place, tile, hour, work)
    times[RECORDS] += 1


@inlined
def _keep(rows, record, table, place, tile, last, work):
    """Keeps the values themselves; a feature's first one is what later ones are relative to."""
    values, origin = table.values, table.origin
    for lane in range(rows.values.shape[2]):
        given, first = rows.values[record, tile, lane], origin[place, tile, lane]
        first = first if first == first else given
        origin[place, tile, lane] = first
        work[VALUE + lane] = relative(given, first)
    for lane in range(rows.values.shape[2]):
        values[place, tile, last + lane] = work[VALUE + lane]


@inlined
def _teach_level(rows, table, place, tile, gain, rates, work):
    """Teaches level, variances and the long mean; leaves how far the record is away, in the entity's own spreads."""
    values = table.values
    for lane in range(rows.values.shape[2]):
        value, level = work[VALUE + lane], values[place, tile, LEVEL + lane]
        variance, slow = values[place, tile, VARIANCE + lane], values[place, tile, SLOW + lane]
        count, total = values[place, tile, COUNT + lane], values[place, tile, PART + lane]
        own = own_spread(variance, slow)
        limit = rates.clip * own
        delta = value - level
        delta = limited(delta, limit) if (variance > ZERO) & (count >= SETTLED) else delta
        away = limited(delta / own, LIMIT)
        work[AWAY + lane] = away if count >= SETTLED else np.float32(np.nan)
        there = value == value
        delta = delta if there else ZERO
        once = ONE / (count + ONE)
        share = max(gain, once) if there else ZERO
        values[place, tile, PART + lane] = total + (level + delta if there else ZERO)
        values[place, tile, PART_COUNT + lane] += ONE if there else ZERO
        values[place, tile, LEVEL + lane] = level + share * delta
        values[place, tile, VARIANCE + lane] = (ONE - share) * (variance + share * delta * delta)
        values[place, tile, SLOW + lane] = slow + once * (delta * delta - slow if there else ZERO)
        values[place, tile, COUNT + lane] = count + (ONE if there else ZERO)


@inlined
def _teach_season(rows, table, place, tile, hour, work):
    values, slot, day = table.values, HOUR + hour % HOURS * LANES, weekday(hour)
    for lane in range(rows.values.shape[2]):
        away, mean = work[AWAY + lane], values[place, tile, RESIDUAL + lane]
        change = away - values[place, tile, slot + lane] - values[place, tile, day + lane] - mean
        work[CHANGE + lane] = change if change == change else ZERO
    for lane in range(rows.values.shape[2]):
        away = work[AWAY + lane]
        there = away == away
        values[place, tile, RESIDUAL + lane] += EIGHTH * work[CHANGE + lane]
        values[place, tile, VISIT + lane] += away if there else ZERO
        values[place, tile, VISIT_COUNT + lane] += ONE if there else ZERO


@borrowing
def _end_block(table, place, at):
    """The block that is full takes the place of the oldest; the sum of all is made anew, as rounding would stay."""
    for tile in range(table.values.shape[1]):
        values = table.values[place, tile]
        for part, full, block in ((PART, FULL, BLOCK), (PART_COUNT, FULL_COUNT, BLOCK_COUNT)):
            for lane in range(LANES):
                values[block + at + lane] = values[part + lane]
                values[part + lane] = ZERO
                total = ZERO
                for each in range(BLOCKS):
                    total += values[block + each * LANES + lane]
                values[full + lane] = total


@borrowing
def _end_visit(table, place, before, now):
    """An hour has ended for an entity, and perhaps a day: what was seen in it becomes part of what is usual."""
    if before == NO_TIME:
        return
    slot = HOUR + before % HOURS * LANES
    for tile in range(table.values.shape[1]):
        values = table.values[place, tile]
        for lane in range(LANES):
            known, count = values[slot + lane], values[VISIT_COUNT + lane]
            if known == known:
                values[DAY + lane] += values[VISIT + lane] - count * known
                values[DAY_COUNT + lane] += count
        _fold(values, VISIT, slot)
        if before // HOURS != now // HOURS:
            _fold(values, DAY, weekday(before))


@inlined
def _fold(values, sums, row):
    """Makes the mean of what was seen a part of what is usual; where nothing was usual, all of it."""
    for lane in range(LANES):
        total, count, known = values[sums + lane], values[sums + LANES + lane], values[row + lane]
        if count > 0:
            mean = total / count
            values[row + lane] = known + SEASON_GAIN * (mean - known) if known == known else mean
        values[sums + lane] = ZERO
        values[sums + LANES + lane] = ZERO
