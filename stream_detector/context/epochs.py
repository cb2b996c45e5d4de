"""The context of a partition: two staggered tables, each begun at a fixed offset before its epoch.

A record at offset o meets the table of epoch k = o // epoch, taught by the offsets [k epoch - history, o)
alone. Whoever reads the log from there on has the same tables, to the bit.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from stream_detector.context.spec import ContextSpec
from stream_detector.context.table import ABSENT, BLOCKS, EVICTED, LANES, LATE_RECORDS, USED, EpochTable, empty, fitted
from stream_detector.context.teaching import COLUMNS, WORK, LogRows, Population, Rates, Said, run, teach

__all__ = ["Columns", "PartitionContext"]

SPARE = 4  # times the entities of a table may be numbered before the numbers are given anew


@dataclass(frozen=True, slots=True)
class Columns:
    """What the context says of records, in spreads of their entities; NaN where it knows nothing."""

    columns: NDArray[np.float32]  # [record, column, feature], -30 to 30
    gaps: NDArray[np.float32]  # [record, 2], -1 to 1: the gap before it, and the rate lately, against the usual
    known: NDArray[np.int64]  # [record]: records that its entity had taught


class PartitionContext:
    """The context of one partition, record by record in the order of its log. One thread at a time.

    `low` is the first offset that the log still holds. `counts` are the records whose columns were read: all `records`,
    those with `full` context (their entity had taught as many as the longest mean looks back), those with a `partial`
    one (`is_whole` denies it), those too `late` to teach, and the `evictions` that they caused.
    """

    def __init__(self, spec: ContextSpec, low: int = 0) -> None:
        self._spec, self._low = spec, low
        self._epoch = -1
        self.counts: Counter[str] = Counter()
        self._now = self._following = self._empty()
        self._numbers: defaultdict[str | None, int] = defaultdict(count().__next__, {None: ABSENT})
        self._rates, self._work = _rates(spec), np.empty(WORK, np.float32)

    def columns(
        self,
        offsets: NDArray[np.int64],
        entities: Sequence[str | None],
        times: NDArray[np.int64],
        hours: NDArray[np.int64],
        values: NDArray[np.float64],
        population: Population,
    ) -> Columns:
        """The columns of records, each before it has taught; then it teaches.

        `offsets` [record] ascend; rows of one message share one. `times` [record] are nanoseconds since
        1970 and `hours` local hours since then, both `NO_TIME` where there is none; `values` [record,
        feature] are in the input's units.
        """
        rows = self._rows(entities, times, hours, values)
        count, features = values.shape
        out = Said(
            np.empty((count, len(COLUMNS), rows.values.shape[1] * LANES), np.float32),
            np.full((count, 2), np.nan, np.float32),
            np.zeros(count, np.int64),
        )
        usual = population._replace(centre=_tiled(population.centre), variance=_tiled(population.variance))
        for first, last, overlap in self._stretches(offsets, rows):
            late, evictions = self.late, self.evictions
            run(rows, first, last, self._now, self._following, overlap, self._rates, self._work, usual, out)
            self.counts.update(late=self.late - late, evictions=self.evictions - evictions)
        full = int((out.known >= self._spec.horizons[-1]).sum())
        partial = int(np.searchsorted(offsets, self._spec.whole_from(self._low)))
        self.counts.update(records=count, full=full, partial=partial)
        return Columns(out.columns[:, :, :features], out.gaps, out.known)

    def teach(
        self,
        offsets: NDArray[np.int64],
        entities: Sequence[str | None],
        times: NDArray[np.int64],
        hours: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> None:
        """Teaches records as `columns` does, and reads none of their columns: for what is only gone through again."""
        rows = self._rows(entities, times, hours, values)
        for first, last, overlap in self._stretches(offsets, rows):
            teach(rows, first, last, self._now, self._following, overlap, self._rates, self._work)

    def is_whole(self, offset: int) -> bool:
        """Whether the log holds all that teaches the table of a record at `offset`, so that it equals anybody's."""
        return self._spec.start(offset) >= self._low

    @property
    def entities(self) -> int:
        """Entities that the present table knows."""
        return int(self._now.figures[USED])

    @property
    def evictions(self) -> int:
        """Entities that had to leave the present table."""
        return int(self._now.figures[EVICTED])

    @property
    def late(self) -> int:
        """Records that came too late to teach the present table."""
        return int(self._now.figures[LATE_RECORDS])

    @property
    def memory(self) -> int:
        """Bytes of both tables."""
        return sum(array.nbytes for table in (self._now, self._following) for array in table)

    @property
    def figures(self) -> Mapping[str, int]:
        """What an operator is told: the present table's entities and evictions, memory, and the records that were read."""
        counted = {name: self.counts[name] for name in ("records", "full", "partial")}
        return {"entities": self.entities, "evictions": self.evictions, "bytes": self.memory, **counted}

    def _empty(self) -> EpochTable:
        return empty(len(self._spec.features), self._spec.most_entities)

    def _rows(
        self,
        entities: Sequence[str | None],
        times: NDArray[np.int64],
        hours: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> LogRows:
        if len(self._numbers) > SPARE * self._spec.most_entities:
            self._forget_numbers()
        return LogRows(self._numbered(entities), times, hours, _tiled(values))

    def _stretches(self, offsets: NDArray[np.int64], rows: LogRows) -> Iterator[tuple[int, int, bool]]:
        """Stretches of records, each with its tables made ready, and whether the next epoch's is taught, too."""
        first = 0
        for last in self._cuts(offsets):
            overlap = self._enter(int(offsets[first]))
            self._now = self._with_room(self._now, rows.entity[first:last])
            if overlap:
                self._following = self._with_room(self._following, rows.entity[first:last])
            yield first, last, overlap
            first = last

    def _cuts(self, offsets: NDArray[np.int64]) -> list[int]:
        """Ends of the stretches that the same tables serve, each by its number of records."""
        if not len(offsets):
            return []
        stretch = 2 * (offsets // self._spec.epoch) + (
            offsets % self._spec.epoch >= self._spec.epoch - self._spec.history
        )
        return [*(np.flatnonzero(np.diff(stretch)) + 1).tolist(), len(offsets)]

    def _enter(self, offset: int) -> bool:
        """Makes the tables of the epoch of an offset the present ones; whether the next epoch's is taught, too."""
        epoch = offset // self._spec.epoch
        if epoch != self._epoch:
            self._now = self._following if epoch == self._epoch + 1 else self._empty()
            self._following = self._empty()
            self._epoch = epoch
        return offset % self._spec.epoch >= self._spec.epoch - self._spec.history

    def _numbered(self, entities: Sequence[str | None]) -> NDArray[np.int64]:
        return np.fromiter(map(self._numbers.__getitem__, entities), np.int64, len(entities))

    def _forget_numbers(self) -> None:
        """Numbers only entities that a table knows: numbers are names of convenience, and decide nothing."""
        names = list(self._numbers)[1:]
        tables = (self._now, self._following)
        kept = np.unique(np.concatenate([table.entity_at[: int(table.figures[USED])] for table in tables]))
        given = {None: ABSENT} | {names[old]: new for new, old in enumerate(kept)}
        self._numbers = defaultdict(count(len(kept)).__next__, given)
        self._now, self._following = (_renumbered(table, kept) for table in tables)

    def _with_room(self, table: EpochTable, entities: NDArray[np.int64]) -> EpochTable:
        table = fitted(table, len(self._numbers), 0, self._spec.most_entities)
        absent = entities[(entities >= 0) & (table.place_of[entities] == ABSENT)]
        return fitted(table, len(self._numbers), len(np.unique(absent)), self._spec.most_entities)


def _tiled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values [..., feature] as [..., tile, lane], NaN beyond the features."""
    beyond = -values.shape[-1] % LANES
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, beyond)], constant_values=np.nan) if beyond else values
    return np.ascontiguousarray(padded, np.float64).reshape(*values.shape[:-1], padded.shape[-1] // LANES, LANES)


def _rates(spec: ContextSpec) -> Rates:
    short, medium, long = spec.horizons
    memory, block = float(spec.memory), -(-long // (BLOCKS + 1))
    return Rates(memory, float(spec.memory_records), short, medium, block, np.float32(spec.clip), spec.grace, spec.cap)


def _renumbered(table: EpochTable, kept: NDArray[np.int64]) -> EpochTable:
    used = int(table.figures[USED])
    entity_at = table.entity_at.copy()
    entity_at[:used] = np.searchsorted(kept, entity_at[:used])
    place_of = np.full(max(len(kept), 1), ABSENT, np.int32)
    place_of[entity_at[:used]] = np.arange(used, dtype=np.int32)
    return table._replace(entity_at=entity_at, place_of=place_of)
