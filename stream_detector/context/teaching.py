"""What a record teaches the table, and what the table says about a record before that; compiled.

What is learnt depends on the record's values, its times and its entity's entry alone: never on a score, a
threshold or a model. All arithmetic is of the four operations and the square root, which are exact to the
last bit on every machine; a decay is d / (memory + d), which is the exponential one for small steps d.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.context.spec import HOURS, NO_TIME, RECENT, WEEKDAYS
from stream_detector.context.table import (
    ABSENT,
    CLOCK,
    COUNT,
    DAY,
    DAY_COUNT,
    HOUR,
    HOUR_NOW,
    LAST,
    LATE,
    LATE_COUNT,
    LATE_RECORDS,
    LEVEL,
    LONG,
    RECORDS,
    RESIDUAL,
    SHORT_GAP,
    USUAL_GAP,
    VARIANCE,
    VISIT,
    VISIT_COUNT,
    WEEKDAY,
    EpochTable,
    find,
    make_room,
    touch,
)
from stream_detector.scoring.compiled.arithmetic import compiled

__all__ = ["COLUMNS", "LogRows", "Population", "Rates", "run", "teach"]

COLUMNS = ("mean_8", "residual", "residual_8", "mean_3", "mean_long")
AGREE = 3  # late records that agree set an entity's clock back
SETTLED = 8  # values of a feature before what it may teach is limited
SEASON_GAIN = 0.3  # of the newest day in what is usual at an hour
THURSDAY = 3  # the weekday of 1 January 1970, from Monday
FLOOR = 0.05  # of the population's variance, added to an entity's own
LIMIT = 30.0  # of a column, in spreads


class LogRows(NamedTuple):
    """Records of one partition in the order of the log."""

    entity: NDArray[np.int64]  # [record]: the number of its entity, or -1
    time: NDArray[np.int64]  # [record]: nanoseconds, or `NO_TIME`
    hour: NDArray[np.int64]  # [record]: local hours since 1970, or `NO_TIME`
    values: NDArray[np.float64]  # [record, feature] in the input's units; NaN is missing


class Rates(NamedTuple):
    """What of a `ContextSpec` compiled code needs."""

    memory: float
    memory_records: float
    long_horizon: float
    clip: float
    grace: int
    cap: int


class Population(NamedTuple):
    """What is usual among all entities: belongs to the model, and is applied when columns are read."""

    centre: NDArray[np.float64]  # [feature]
    variance: NDArray[np.float64]  # [feature]
    weight: float  # records that the population counts for, beside an entity's own


@compiled
def run(
    rows: LogRows,
    first: int,
    last: int,
    now: EpochTable,
    following: EpochTable,
    teach_following: bool,  # noqa: FBT001 - compiled code takes no names
    rates: Rates,
    population: Population,
    columns: NDArray[np.float32],
    gaps: NDArray[np.float32],
    known: NDArray[np.int64],
) -> None:
    """Reads the columns of records [first, last) from the table `now`, and teaches both tables, record by record.

    `columns` [record, column, feature] and `gaps` [record, 2] are NaN where nothing is known; `known`
    [record] is the number of records that the entity had taught.
    """
    for record in range(first, last):
        entity = rows.entity[record]
        if entity < 0:
            continue
        place = find(now, entity)
        if place != ABSENT:
            known[record] = now.times[place, RECORDS]
            _read(rows, record, now, place, rates, population, columns[record])
            _read_gap(rows.time[record], now, place, rates, gaps[record])
        _teach(rows, record, now, entity, rates)
        if teach_following:
            _teach(rows, record, following, entity, rates)


@compiled
def teach(
    rows: LogRows,
    first: int,
    last: int,
    now: EpochTable,
    following: EpochTable,
    teach_following: bool,  # noqa: FBT001 - compiled code takes no names
    rates: Rates,
) -> None:
    """Teaches both tables the records [first, last) as `run` does, and reads no columns."""
    for record in range(first, last):
        entity = rows.entity[record]
        if entity >= 0:
            _teach(rows, record, now, entity, rates)
            if teach_following:
                _teach(rows, record, following, entity, rates)


@compiled
def _read(rows, record, table, place, rates, population, columns):
    values, hour = table.values[place], rows.hour[record]
    ring = table.times[place, RECORDS]
    for feature in range(rows.values.shape[1]):
        value = rows.values[record, feature] - table.origin[place, feature]
        count = values[COUNT, feature]
        if not (value == value and count > 0):
            continue
        share = count / (count + population.weight)
        centre = population.centre[feature] - table.origin[place, feature]
        level = centre + share * (values[LEVEL, feature] - centre)
        variance = share * values[VARIANCE, feature] + (1.0 - share + FLOOR) * population.variance[feature]
        scale = 1.0 / np.sqrt(variance)
        total, seen = value, 1.0
        for back in range(1, RECENT):
            last = values[LAST + (ring - back) % RECENT, feature]
            if back <= ring and last == last:
                total += last
                seen += 1.0
            if back == 2:
                columns[3, feature] = _limited((total / seen - level) * scale)
        columns[0, feature] = _limited((total / seen - level) * scale)
        gain = max(1.0 / (count + 1.0), 2.0 / (rates.long_horizon + 1.0))
        long = values[LONG, feature] + gain * (value - values[LONG, feature])
        columns[4, feature] = _limited((long - level) * scale)
        usual = _usual(values, hour, feature)
        if usual == usual:
            residual = value - usual
            columns[1, feature] = _limited(residual * scale)
            smooth = values[RESIDUAL, feature] + (residual - values[RESIDUAL, feature]) / RECENT
            columns[2, feature] = _limited(smooth * scale)


@compiled
def _limited(value):
    return min(max(value, -LIMIT), LIMIT)


@compiled
def _usual(values, hour, feature):
    """What the entity's feature usually is at this hour of this weekday, relative to its origin; or NaN."""
    if hour == NO_TIME:
        return np.nan
    usual = np.float64(values[HOUR + hour % HOURS, feature])
    offset = values[WEEKDAY + (hour // HOURS + THURSDAY) % WEEKDAYS, feature]
    if offset == offset:
        usual += offset
    return usual


@compiled
def _read_gap(time, table, place, rates, gaps):
    clock = table.times[place, CLOCK]
    if min(time, clock) == NO_TIME or table.times[place, RECORDS] < 2:
        return
    gap = np.float64(min(max(time - clock, 0), rates.cap))
    usual, short = table.gaps[place, USUAL_GAP], table.gaps[place, SHORT_GAP]
    if gap + usual > 0:
        gaps[0] = (gap - usual) / (gap + usual)
    short += (gap - short) / RECENT
    if short + usual > 0:
        gaps[1] = (usual - short) / (short + usual)


@compiled
def _teach(rows, record, table, entity, rates):
    place = find(table, entity)
    if place == ABSENT:
        place = make_room(table, entity)
        table.origin[place] = rows.values[record]
    times = table.times[place]
    step = _step(rows.time[record], times, rates)
    if step < 0:
        table.figures[LATE_RECORDS] += 1
        return
    touch(table, place)
    _teach_gap(times, table.gaps[place], step, rates)
    values, hour = table.values[place], rows.hour[record]
    if hour != times[HOUR_NOW]:
        _end_visit(values, times[HOUR_NOW], hour)
        times[HOUR_NOW] = hour
    ring = LAST + times[RECORDS] % RECENT
    for feature in range(rows.values.shape[1]):
        if table.origin[place, feature] != table.origin[place, feature]:
            table.origin[place, feature] = rows.values[record, feature]
        value = rows.values[record, feature] - table.origin[place, feature]
        values[ring, feature] = value
        if value == value:
            values[ring, feature] = _teach_value(values, feature, value, step, hour, rates)
    times[RECORDS] += 1


@compiled
def _step(time, times, rates):
    """How far the record moves its entity's clock, in nanoseconds; -1 when it is late and teaches nothing."""
    if time == NO_TIME:
        return 0
    if times[CLOCK] == NO_TIME:
        times[CLOCK] = time
        return 0
    if time < times[CLOCK] - rates.grace:
        agrees = times[LATE_COUNT] > 0 and abs(time - times[LATE]) <= rates.cap
        times[LATE_COUNT] = times[LATE_COUNT] + 1 if agrees else 1
        times[LATE] = time
        if times[LATE_COUNT] < AGREE:
            return -1
        times[CLOCK] = time
    times[LATE_COUNT] = 0
    step = min(max(time - times[CLOCK], 0), rates.cap)
    times[CLOCK] += step
    return step


@compiled
def _teach_gap(times, gaps, step, rates):
    records = times[RECORDS]
    if records > 0 and times[CLOCK] != NO_TIME:
        gain = max(1.0 / records, step / (rates.memory + step))
        gaps[USUAL_GAP] += gain * (step - gaps[USUAL_GAP])
        gaps[SHORT_GAP] += max(1.0 / records, 1.0 / RECENT) * (step - gaps[SHORT_GAP])


@compiled
def _teach_value(values, feature, value, step, hour, rates):
    """Teaches one value; returns what it counted for: itself, or the limit of what it may teach."""
    count = np.float64(values[COUNT, feature])
    level, variance = np.float64(values[LEVEL, feature]), np.float64(values[VARIANCE, feature])
    delta = value - level
    if count >= SETTLED:
        limit = rates.clip * np.sqrt(variance)
        if limit > 0:
            delta = min(max(delta, -limit), limit)
    value = level + delta
    gain = step / (rates.memory + step) if hour != NO_TIME else 1.0 / rates.memory_records
    gain = max(gain, 1.0 / (count + 1.0))
    values[LEVEL, feature] = level + gain * delta
    values[VARIANCE, feature] = (1.0 - gain) * (variance + gain * delta * delta)
    values[COUNT, feature] = count + 1.0
    long = np.float64(values[LONG, feature])
    values[LONG, feature] = long + max(1.0 / (count + 1.0), 2.0 / (rates.long_horizon + 1.0)) * (value - long)
    if hour != NO_TIME:
        usual = _usual(values, hour, feature)
        if usual == usual:
            residual = np.float64(values[RESIDUAL, feature])
            values[RESIDUAL, feature] = residual + (value - usual - residual) / RECENT
            values[DAY, feature] += value - values[HOUR + hour % HOURS, feature]
            values[DAY_COUNT, feature] += 1
        values[VISIT, feature] += value
        values[VISIT_COUNT, feature] += 1
    return value


@compiled
def _end_visit(values, before, now):
    """An hour has ended for an entity, and perhaps a day: what was seen in it becomes part of what is usual."""
    if before == NO_TIME:
        return
    _fold(values, VISIT, HOUR + before % HOURS)
    if before // HOURS != now // HOURS:
        _fold(values, DAY, WEEKDAY + (before // HOURS + THURSDAY) % WEEKDAYS)


@compiled
def _fold(values, sums, row):
    for feature in range(values.shape[1]):
        count = values[sums + 1, feature]
        if count > 0:
            mean = values[sums, feature] / count
            known = values[row, feature]
            values[row, feature] = known + np.float32(SEASON_GAIN) * (mean - known) if known == known else mean
        values[sums, feature] = 0
        values[sums + 1, feature] = 0
