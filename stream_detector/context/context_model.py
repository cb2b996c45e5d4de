"""What a model makes of contexts: a few columns that its second detector judges, and how the two are joined.

The columns are principal axes of all that a context says, each spread as widely as the others. The nines of the
record alone and those of its context are added, and the sum is calibrated again, as they depend on each other.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from stream_detector.config import ContextConfig
from stream_detector.context.clock import borne_out, calendar, local_hours, zone
from stream_detector.context.epochs import Columns, PartitionContext
from stream_detector.context.profiles import Population, Profiles
from stream_detector.context.spec import NO_TIME, ContextSpec
from stream_detector.scoring.calibration import TailTable, significant
from stream_detector.scoring.compiled.arithmetic import compiled

__all__ = ["ContextModel", "EntityRows", "Projection", "against", "flat", "specified"]

MS = 1_000_000  # nanoseconds
HOUR = 3_600_000 * MS
LIMIT = 10.0  # of a column, in spreads: a single wild one does not rule an axis
LEAST_SPREAD = 1e-3  # of a column: one that never moves says nothing

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EntityRows:
    """Records of one partition in the order of its log, as its context sees them.

    `offsets` int64 [record] ascend. `times` int64 [record] are nanoseconds since 1970, `NO_TIME` where there is none.
    `values` float64 [record, feature] are those of the features that the specification names; NaN is missing.
    """

    offsets: NDArray[np.int64]
    entities: Sequence[str | None]
    times: NDArray[np.int64]
    hours: NDArray[np.int64]
    values: Floats

    @classmethod
    def of(
        cls,
        spec: ContextSpec,
        offsets: NDArray[np.int64],
        entities: Sequence[str | None],
        times: NDArray[np.int64],
        received: NDArray[np.int64] | None,
        values: NDArray[np.floating],
    ) -> Self:
        """Sees records as a specification says: `received` [record] are Kafka's timestamps, nanoseconds, if any.

        An event time too far beyond its timestamp counts as that and the tolerance.
        """
        if spec.entity_path is None:
            entities = [""] * len(offsets)
        if spec.time_path is None:
            times = np.full(len(offsets), NO_TIME)
        elif received is not None:
            times = borne_out(times, received, spec.tolerance)
        return cls(offsets, entities, times, local_hours(times, ZoneInfo(spec.zone)), values.astype(np.float64))


@dataclass(frozen=True, slots=True)
class Projection:
    """Turns columns of a context into fewer: `centre` and `scale` float64 [column], `axes` float64 [axis, column]."""

    centre: Floats
    scale: Floats
    axes: Floats

    @classmethod
    def fit(cls, columns: NDArray[np.float32], axes: int) -> Self:
        """Learns from columns [record, column] of normal records; NaN is unknown, and as usual here."""
        known: Floats = np.where(np.isnan(columns).all(axis=0), 0, columns).astype(np.float64)
        centre: Floats = np.nanmedian(known, axis=0)
        scale: Floats = 1.4826 * np.nanmedian(np.abs(known - centre), axis=0)
        scale = np.maximum(np.maximum(scale, np.nanstd(known, axis=0) / LIMIT), LEAST_SPREAD)
        spread = np.nan_to_num(np.clip((known - centre) / scale, -LIMIT, LIMIT))
        _, found = np.linalg.eigh(spread.T @ spread)
        chosen = found[:, ::-1].T[:axes]
        signs = np.sign(chosen[np.arange(len(chosen)), np.abs(chosen).argmax(axis=1)])
        return cls(centre, scale, np.ascontiguousarray(chosen * signs[:, None]))

    def __call__(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float32 [record, axis] of columns [record, column]; a record's do not depend on what is beside it."""
        out = np.zeros((len(columns), len(self.axes)), np.float32)
        _project(np.ascontiguousarray(columns), self.centre, self.scale, self.axes, out)
        return out


@dataclass(frozen=True, slots=True)
class ContextModel:
    """What belongs to a model of what its context says.

    `population` is what is usual among all entities, `profiles` what was usual for each in fitting, `combined` calibrates the sum of both nines, `warm` are the
    records that an entity must have taught before its context is judged, and `newness` are the nines that the first
    record of an entity has; 0 where it says nothing.
    """

    spec: ContextSpec
    population: Population
    profiles: Profiles
    projection: Projection
    combined: TailTable
    warm: int
    newness: float = 0.0

    @property
    def described(self) -> dict[str, Any]:
        """What it is, for people, as JSON values."""
        return {
            "hash": self.spec.hash,
            **asdict(self.spec),
            "columns": len(self.projection.axes),
            "warm_records": self.warm,
            "new_entity_nines": self.newness,
        }

    def begin(self, low: int = 0) -> PartitionContext:
        """A context that knows nothing yet, of a partition whose log begins at `low`."""
        return PartitionContext(self.spec, low)

    def read(self, context: PartitionContext, rows: EntityRows) -> tuple[NDArray[np.float32], Floats]:
        """What a context says of records before they teach it: columns float32 [record, axis] for the second detector,
        and nines float64 [record] that are known without it: NaN where it is to judge, -1 where nothing is said.
        """
        said = context.columns(rows.offsets, rows.entities, rows.times, rows.hours, rows.values, self.population)
        there = np.fromiter((name is not None for name in rows.entities), np.bool_, len(rows.entities))
        silent = np.where(there & (said.known == 0) & (self.newness > 0), self.newness, -1.0)
        columns = np.hstack(
            (flat(said), against(self.profiles, rows.entities, rows.hours, rows.values, self.population))
        )
        return self.projection(columns), np.where(said.known >= self.warm, np.nan, silent)

    @staticmethod
    def told(known: Floats, asked: NDArray[np.float32]) -> NDArray[np.float32]:
        """Nines float32 [record] of contexts, NaN where one says nothing: `known` as `read` gives them, and those
        that the second detector was `asked` for.
        """
        view = np.where(known < 0, np.nan, known).astype(np.float32)
        view[np.isnan(known)] = asked
        return view

    def joined(self, alone: NDArray[np.float32], view: NDArray[np.float32]) -> NDArray[np.float32]:
        """Nines float32 [record] of records by those alone and those of their contexts; NaN says nothing."""
        total = alone.astype(np.float64) + view
        both = significant(np.ascontiguousarray(self.combined(np.nan_to_num(total)[:, None])[:, 0]))
        return np.where(np.isnan(total), alone, both)


def flat(said: Columns) -> NDArray[np.float32]:
    """All that a context says of records, float32 [record, column]; NaN where nothing is known."""
    return np.hstack((said.columns.reshape(len(said.columns), -1), said.gaps))


def against(
    profiles: Profiles,
    entities: Sequence[str | None],
    hours: NDArray[np.int64],
    values: Floats,
    population: Population,
) -> NDArray[np.float32]:
    """What records are against the profiles of their entities, float32 [record, column]; NaN where nothing is known."""
    said = profiles.columns(entities, hours, values, population)
    return said.reshape(len(said), said.shape[1] * said.shape[2])


def specified(
    settings: ContextConfig, features: tuple[str, ...], entity_path: str | None, time_path: str | None
) -> ContextSpec:
    """The specification of a context over these features. Raises `ConfigError` for a zone that nobody knows."""
    where = zone(settings.zone)
    return ContextSpec(
        features=features,
        entity_path=entity_path,
        time_path=time_path,
        zone=settings.zone,
        zone_data="" if settings.zone == "UTC" else calendar(where),
        epoch=settings.epoch,
        history=settings.history,
        memory=round(settings.memory_hours * HOUR),
        memory_records=settings.memory_records,
        horizons=settings.horizons,
        grace=settings.grace_ms * MS,
        cap=settings.cap_ms * MS,
        tolerance=settings.tolerance_ms * MS,
        most_entities=settings.most_entities,
    )


@compiled
def _project(
    columns: NDArray[np.float32], centre: Floats, scale: Floats, axes: Floats, out: NDArray[np.float32]
) -> None:
    """Each sum in the order of the columns, whatever the number of records: the last bit is always the same."""
    spread = np.zeros(columns.shape[1])
    for row in range(columns.shape[0]):
        for column in range(columns.shape[1]):
            value = columns[row, column]
            spread[column] = 0.0
            if value == value:
                spread[column] = min(max((value - centre[column]) / scale[column], -LIMIT), LIMIT)
        for axis in range(axes.shape[0]):
            total = 0.0
            for column in range(columns.shape[1]):
                total += axes[axis, column] * spread[column]
            out[row, axis] = total
