"""What a table says about a record before that teaches it; compiled.

A loop goes over the lanes of a tile, which a processor takes all at once: for that it writes to one array, at places
that are constant distances apart, and does not know how many lanes there are. A number that is missing is NaN, and
so is all that is computed from it.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.context.spec import HOURS, NO_TIME, RECENT, WEEKDAYS
from stream_detector.context.table import (
    COUNT,
    FULL,
    FULL_COUNT,
    HOUR,
    LANES,
    LAST,
    LEVEL,
    PART,
    PART_COUNT,
    RECORDS,
    RESIDUAL,
    SLOW,
    VARIANCE,
    WEEKDAY,
)
from stream_detector.scoring.compiled.arithmetic import ONE, ZERO, inlined

__all__ = [
    "COLUMNS",
    "EIGHTH",
    "LIMIT",
    "THURSDAY",
    "WORK",
    "Population",
    "limited",
    "own_spread",
    "read",
    "relative",
    "weekday",
]

COLUMNS = ("medium", "residual", "residual_mean", "short", "long")
WORK = 10 * LANES  # entries of the workspace: some of a tile, and then its columns
VALUE, CENTRE, SCALE, TOTAL, SEEN, MEDIUM, RESIDUE, RESIDUE_MEAN, SHORT, FAR = range(0, WORK, LANES)
THURSDAY = 3  # the weekday of 1 January 1970, from Monday
LIMIT = np.float32(30)  # of a column, and of what a record teaches, in spreads
FARTHEST = np.float32(1e18)  # from an entity's first value, in the input's units: the square is a float32, too
NEAREST = np.float32(1e-18)  # the least spread, so that what never moves is 0 spreads away
OF_OWN = np.float32(0.05)  # of an entity's variance over long, added to that of lately
OF_POPULATION = np.float32(0.01)  # of the population's variance, added to an entity's own
EIGHTH = np.float32(1 / RECENT)


class Population(NamedTuple):
    """What is usual among all entities: belongs to the model, and is applied when columns are read."""

    centre: NDArray[np.float64]  # [feature]; [tile, lane] for compiled code
    variance: NDArray[np.float64]  # [feature]; [tile, lane] for compiled code
    weight: float  # records that the population counts for, beside an entity's own


@inlined
def limited(value, limit):
    """The value, -limit or limit; NaN stays."""
    return -limit if value < -limit else (limit if value > limit else value)  # noqa: FURB136 - max has no NaN


@inlined
def relative(value, origin):
    """A value against the first one of its entity."""
    return limited(np.float32(value - origin), FARTHEST)


@inlined
def own_spread(variance, slow):
    """The spread of an entity's feature, by its variance lately and a little of that over long; more than 0."""
    return max(np.sqrt(variance + OF_OWN * slow), NEAREST)


@inlined
def weekday(hour):
    """The row of the weekday of an hour."""
    return WEEKDAY + (hour // HOURS + THURSDAY) % WEEKDAYS * LANES


@inlined
def read(rows, record, table, place, rates, population, work, columns):
    """Fills the columns [record, column, tile and lane] of a record from the entry at a place; `work` is a workspace."""
    hour = rows.hour[record]
    for at in range(RESIDUE, SHORT):
        work[at] = np.float32(np.nan)
    for tile in range(rows.values.shape[1]):
        _scale(rows, record, table, place, tile, population, work)
        _means(rows, table, place, tile, rates, work)
        _long(rows, table, place, tile, work)
        if hour != NO_TIME:
            _season(rows, table, place, tile, hour, work)
        for column in range(len(COLUMNS)):
            for lane in range(LANES):
                columns[record, column, tile * LANES + lane] = work[MEDIUM + column * LANES + lane]


@inlined
def _scale(rows, record, table, place, tile, population, work):
    """The value, and the level and scale that it is held against, which are the population's at first."""
    values, weight = table.values, np.float32(population.weight)
    for lane in range(rows.values.shape[2]):
        count, slow = values[place, tile, COUNT + lane], values[place, tile, SLOW + lane]
        share = count / (count + weight)
        own = values[place, tile, VARIANCE + lane] + OF_OWN * slow
        variance = share * own + (ONE - share + OF_POPULATION) * np.float32(population.variance[tile, lane])
        centre = np.float32(population.centre[tile, lane] - table.origin[place, tile, lane])
        work[VALUE + lane] = relative(rows.values[record, tile, lane], table.origin[place, tile, lane])
        work[CENTRE + lane] = centre + share * (values[place, tile, LEVEL + lane] - centre)
        work[SCALE + lane] = ONE / np.sqrt(variance)
    for lane in range(rows.values.shape[2]):
        work[TOTAL + lane] = _spreads(work[VALUE + lane], work[CENTRE + lane], work[SCALE + lane])
        work[SEEN + lane] = ONE


@inlined
def _spreads(value, centre, scale):
    return limited((value - centre) * scale, LIMIT)


@inlined
def _means(rows, table, place, tile, rates, work):
    """Means of the last few values, each limited."""
    values, records = table.values, table.times[place, RECORDS]
    for back in range(1, rates.medium):
        row = LAST + (records - back) % RECENT * LANES
        if back <= records:
            for lane in range(rows.values.shape[2]):
                value = _spreads(values[place, tile, row + lane], work[CENTRE + lane], work[SCALE + lane])
                there = value == value
                work[TOTAL + lane] += value if there else ZERO
                work[SEEN + lane] += ONE if there else ZERO
        if back == rates.short - 1:
            for lane in range(rows.values.shape[2]):
                work[SHORT + lane] = work[TOTAL + lane] / work[SEEN + lane]
    for lane in range(rows.values.shape[2]):
        work[MEDIUM + lane] = work[TOTAL + lane] / work[SEEN + lane]


@inlined
def _long(rows, table, place, tile, work):
    """The mean of the record, the block that is being filled, and the full ones."""
    values = table.values
    for lane in range(rows.values.shape[2]):
        count = ONE + values[place, tile, PART_COUNT + lane] + values[place, tile, FULL_COUNT + lane]
        total = work[VALUE + lane] + values[place, tile, PART + lane] + values[place, tile, FULL + lane]
        work[FAR + lane] = _spreads(total / count, work[CENTRE + lane], work[SCALE + lane])


@inlined
def _season(rows, table, place, tile, hour, work):
    """The residual to what is usual now, and its mean, in the scale of the other columns."""
    values, slot, day = table.values, HOUR + hour % HOURS * LANES, weekday(hour)
    for lane in range(rows.values.shape[2]):
        own = own_spread(values[place, tile, VARIANCE + lane], values[place, tile, SLOW + lane])
        unit, away = own * work[SCALE + lane], work[VALUE + lane] - values[place, tile, LEVEL + lane]
        usual = values[place, tile, slot + lane] + values[place, tile, day + lane]
        residual = limited(away * work[SCALE + lane] - usual * unit, LIMIT)
        mean = values[place, tile, RESIDUAL + lane] * unit
        work[RESIDUE + lane] = residual
        work[RESIDUE_MEAN + lane] = limited(mean + (residual - mean) * EIGHTH, LIMIT)
