"""What is usual for each entity over long: a profile that a model learns from records and keeps until the next one.

A profile is told in spreads: its level in those of the population, by the hour and weekday in its own. An entity
with few records has most of the population's.
"""

# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stream_detector.context.spec import HOURS, NO_TIME, WEEKDAYS
from stream_detector.context.spreads import LIMIT, THURSDAY, Population, limited
from stream_detector.errors import DataError
from stream_detector.scoring.compiled.arithmetic import borrowing

__all__ = ["PROFILE_COLUMNS", "PROFILE_ROWS", "Population", "Profiles"]

PROFILE_COLUMNS = ("level", "hour")
LEVEL, SPREAD = range(2)  # rows of a profile; 24 hours and seven weekdays follow
HOUR, WEEKDAY = 2, 2 + HOURS
PROFILE_ROWS = WEEKDAY + WEEKDAYS
OTHERS = 0  # the profile of the population, which entities without one share
WEIGHT = 20.0  # records that the population counts for, beside those of an entity, an hour or a weekday
MOST = 3.0  # spreads that a record counts for in what is usual by the hour: a few far ones do not rule it
LEAST = 0.05  # of the population's spread: what hardly moves is not held against less

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Profiles:
    """Profiles of entities by name, and first that of all others: `rows` float32 [profile, row, feature]."""

    names: tuple[str, ...]
    rows: NDArray[np.float32]
    _place: dict[str | None, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_place", {name: at for at, name in enumerate(self.names, 1)})

    @classmethod
    def learn(
        cls,
        entities: Sequence[str | None],
        hours: NDArray[np.int64],
        values: Floats,
        population: Population,
        most_entities: int,
    ) -> Self:
        """Learns from records: `hours` [record] since 1970, `NO_TIME` for none; `values` [record, feature], NaN missing.

        The entities with the most records have profiles, of those with as many the first by name.
        """
        chosen = _chosen(entities, most_entities)
        place: dict[str | None, int] = {name: at for at, name in enumerate(chosen, 1)}
        places = np.fromiter((place.get(name, OTHERS) for name in entities), np.int64, len(entities))
        units = (values - population.centre) / np.sqrt(population.variance)
        rows = np.zeros((len(chosen) + 1, PROFILE_ROWS, values.shape[1]))
        rows[OTHERS, SPREAD] = 1.0
        order = np.argsort(places, kind="stable")
        ends = np.searchsorted(places[order], np.arange(len(chosen) + 2))
        for at in range(1, len(chosen) + 1):
            rows[at, :HOUR] = _level_and_spread(units[order[ends[at] : ends[at + 1]]])
        _teach_hours(rows, places, hours, units)
        return cls(chosen, rows.astype(np.float16).astype(np.float32))

    def places(self, entities: Sequence[str | None]) -> Places:
        """The profile of each record's entity, int64 [record]."""
        return np.fromiter((self._place.get(name, OTHERS) for name in entities), np.int64, len(entities))

    def columns(
        self, entities: Sequence[str | None], hours: NDArray[np.int64], values: Floats, population: Population
    ) -> NDArray[np.float32]:
        """Values [record, feature] against the profiles, float32 [record, column, feature], in spreads, -30 to 30.

        NaN where the value is missing or, by the hour, the time. A record's columns do not depend on what is beside it.
        """
        out = np.empty((len(values), len(PROFILE_COLUMNS), values.shape[1]), np.float32)
        _read(self.places(entities), hours, values, population, self.rows, out)
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Gives names as one text in UTF-8 and the length of each, and rows in float16."""
        encoded = [name.encode("utf-8", "surrogatepass") for name in self.names]
        return {
            "names": np.frombuffer(b"".join(encoded), np.uint8).copy(),
            "lengths": np.array([len(name) for name in encoded], np.int64),
            "rows": self.rows.astype(np.float16),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Puts arrays together again. Raises `DataError` when they do not fit each other."""
        text, lengths, rows = (np.asarray(arrays[part]) for part in ("names", "lengths", "rows"))
        if (lengths < 0).any() or lengths.sum() != len(text) or rows.shape[:2] != (len(lengths) + 1, PROFILE_ROWS):
            raise DataError(
                f"profiles of {len(lengths):,} entities have {len(text):,} bytes of names and rows {rows.shape}: "
                "the model's file is damaged; take another copy of it"
            )
        ends = np.cumsum(lengths).tolist()
        whole = text.tobytes()
        names = (whole[end - size : end] for end, size in zip(ends, lengths.tolist(), strict=True))
        found = tuple(name.decode("utf-8", "surrogatepass") for name in names)
        return cls(found, np.ascontiguousarray(rows, np.float32))


def _chosen(entities: Sequence[str | None], most: int) -> tuple[str, ...]:
    """The entities that have profiles, by name."""
    names, counts = np.unique([name for name in entities if name is not None] or np.empty(0, str), return_counts=True)
    order = np.lexsort((np.arange(len(names)), -counts))[:most]
    return tuple(str(names[at]) for at in np.sort(order))


def _level_and_spread(units: Floats) -> Floats:
    """Median and spread [2, feature] of an entity's records in units of the population, shrunk to its 0 and 1."""
    count = (~np.isnan(units)).sum(axis=0)
    units = np.where(count == 0, 0.0, units)
    share = count / (count + WEIGHT)
    middle = np.nanmedian(units, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(units - middle), axis=0)
    variance = share * np.square(spread) + (1 - share)
    limit = float(np.finfo(np.float16).max)
    return np.stack((np.clip(share * middle, -limit, limit), np.clip(np.sqrt(variance), LEAST, limit)))


def _teach_hours(rows: Floats, places: Places, hours: NDArray[np.int64], units: Floats) -> None:
    """Fills in what is usual by the hour, and then by the weekday beside that; the population's is that of all."""
    known = hours != NO_TIME
    places, hours, units = places[known], hours[known], units[known]
    slot, day = hours % HOURS, (hours // HOURS + THURSDAY) % WEEKDAYS
    away = np.clip((units - rows[places, LEVEL]) / rows[places, SPREAD], -MOST, MOST)
    for first, number, group in ((HOUR, HOURS, slot), (WEEKDAY, WEEKDAYS, day)):
        part = slice(first, first + number)
        rows[OTHERS, part] = _means(np.zeros_like(places), group, number, away, np.zeros((1, number, away.shape[1])))[0]
        rows[1:, part] = _means(places, group, number, away, np.broadcast_to(rows[OTHERS, part], rows[:, part].shape))[
            1:
        ]
        away = away - rows[places, first + group]


def _means(places: Places, group: Places, number: int, away: Floats, usual: Floats) -> Floats:
    """Means [profile, group, feature], shrunk to what is usual."""
    bins, there = places * number + group, ~np.isnan(away)
    size = usual.shape[0] * number
    out = np.empty(usual.shape)
    for feature in range(away.shape[1]):
        count = np.bincount(bins, there[:, feature], size).reshape(-1, number)
        total = np.bincount(bins, np.where(there[:, feature], away[:, feature], 0.0), size).reshape(-1, number)
        out[:, :, feature] = (total + WEIGHT * usual[:, :, feature]) / (count + WEIGHT)
    return out


@borrowing
def _read(
    places: Places,
    hours: NDArray[np.int64],
    values: Floats,
    population: Population,
    rows: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    for record in range(len(places)):
        place, hour = places[record], hours[record]
        slot, day = HOUR + hour % HOURS, WEEKDAY + (hour // HOURS + THURSDAY) % WEEKDAYS
        for feature in range(values.shape[1]):
            unit = (values[record, feature] - population.centre[feature]) / np.sqrt(population.variance[feature])
            away = (np.float32(unit) - rows[place, LEVEL, feature]) / rows[place, SPREAD, feature]
            usual = rows[place, slot, feature] + rows[place, day, feature]
            out[record, 0, feature] = limited(away, LIMIT)
            out[record, 1, feature] = limited(away - usual, LIMIT) if hour != NO_TIME else np.float32(np.nan)
