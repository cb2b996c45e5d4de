"""Fits what a model makes of contexts: what is usual among all entities, the columns that are judged, and the sum.

Contexts are read of all records in the order of their logs, as serving reads them. Of these, the detector of the
context learns from the earlier ones and is calibrated on the last ones: records near each other in time are alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stream_detector.config import ContextConfig
from stream_detector.context.context_model import ContextModel, EntityRows, Projection, against, flat, specified
from stream_detector.context.epochs import PartitionContext
from stream_detector.context.inputs import Given, entities, event_times
from stream_detector.context.profiles import Profiles
from stream_detector.context.spec import NO_TIME, ContextSpec
from stream_detector.context.teaching import Population
from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema, Kind
from stream_detector.scoring.calibration import TailTable

__all__ = ["ContextBasis", "ContextData", "PartitionLog", "TeachingLogs", "contextual", "in_time", "numeric"]

Matrix = NDArray[np.float32]
Places = NDArray[np.int64]

CUTS = (0.7, 0.8)  # of each log, where the records learnt from and those that choose the checkpoint end
MOST_HELD_OUT = 4_000  # records of each kind
FEWEST = 40  # records with a context, to learn from and to calibrate on together
WEIGHT = 20.0  # records that the population counts for, beside an entity's own
LEAST_VARIANCE = 1e-12  # of the square of a feature's size


@dataclass(frozen=True, slots=True)
class PartitionLog:
    """Records of one partition in the order of its log: `places` [record] are their rows in the matrix, `received`
    Kafka's timestamps in nanoseconds, if there are any.
    """

    places: Places
    offsets: NDArray[np.int64]
    entities: Sequence[str | None]
    times: NDArray[np.int64]
    received: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class TeachingLogs:
    """The logs that records come from, and where records name entity and time; None: nowhere."""

    parts: Sequence[PartitionLog]
    entity_path: str | None
    time_path: str | None

    @classmethod
    def one(
        cls, count: int, entity: Given | None = None, time: Given | None = None, offset: Given | None = None
    ) -> Self:
        """So many records that are one log, as callers of the library give them. Raises `DataError` where numbers differ."""
        offsets = np.arange(count) if offset is None else np.asarray(offset, np.int64)
        if offsets.shape != (count,) or (np.diff(offsets) < 0).any():
            raise DataError(f"offsets must be one for each of {count:,} records, and ascend")
        log = PartitionLog(np.arange(count), offsets, entities(entity, count), event_times(time, count))
        return cls([log], None if entity is None else "entity", None if time is None else "time")


@dataclass(frozen=True, slots=True)
class ContextBasis:
    """What is settled before contexts are read: their specification, and what is usual among all entities."""

    settings: ContextConfig
    spec: ContextSpec
    population: Population

    @classmethod
    def of(
        cls,
        settings: ContextConfig,
        schema: FeatureSchema,
        matrix: Matrix,
        entity_path: str | None,
        time_path: str | None,
    ) -> Self:
        """Learns what is usual from normal records [record, feature]; an empty path is none.

        Raises `DataError` without a feature that is a number.
        """
        judged = numeric(schema)
        if not len(judged):
            raise DataError(
                "no feature is a number that is judged, so nothing has a context; set context.enabled: false"
            )
        spec = specified(settings, tuple(schema.names[at] for at in judged), entity_path or None, time_path or None)
        return cls(settings, spec, _population(matrix[:, judged].astype(np.float64)))

    def read(self, context: PartitionContext, rows: EntityRows) -> tuple[Matrix, Places]:
        """All that a context says of records before they teach it, float32 [record, column], and how many records
        their entities had taught, int64 [record].
        """
        said = context.columns(rows.offsets, rows.entities, rows.times, rows.hours, rows.values, self.population)
        return flat(said), said.known


@dataclass(frozen=True, slots=True)
class ContextData:
    """What contexts say of records: `columns` float32 [record, column], and how many records their entities had taught.

    `values` float64 [record, feature], `whose` (entities) and local `hours` int64 [record] are the records' own. `logs`
    are by log the records in order; `entities` is the number of entities, and `timed` that of records with a time.
    """

    basis: ContextBasis
    columns: Matrix
    known: Places
    values: NDArray[np.float64]
    whose: NDArray[np.object_]
    hours: Places
    logs: Sequence[Places] = ()
    entities: int = 0
    timed: int = 0

    @property
    def settings(self) -> ContextConfig:
        """What the configuration says of contexts."""
        return self.basis.settings

    @property
    def described(self) -> dict[str, Any]:
        """What a model's lineage tells of its context, as JSON values; `full`: records with all that it looks back on."""
        spec = self.basis.spec
        return {
            "spec": spec.hash,
            "entity": spec.entity_path,
            "time": spec.time_path,
            "zone": spec.zone,
            "entities": self.entities,
            "timed": self.timed,
            "records": len(self.known),
            "full": int((self.known >= spec.horizons[-1]).sum()),
        }

    def take(self, places: Places | slice) -> "ContextData":
        """Keeps some of the records, in that order, which is no log's."""
        own = {name: getattr(self, name)[places] for name in ("columns", "known", "values", "whose", "hours")}
        return replace(self, **own, logs=())

    def profiled(self, learn: int) -> tuple[Profiles, "ContextData"]:
        """Makes the profiles of the first `learn` records, and adds to all the columns that these say."""
        population, whose = self.basis.population, self.whose.tolist()
        own = whose[:learn], self.hours[:learn], self.values[:learn]
        profiles = Profiles.learn(*own, population, self.basis.spec.most_entities)
        said = against(profiles, whose, self.hours, self.values, population)
        return profiles, replace(self, columns=np.hstack((self.columns, said)))

    @property
    def warm(self) -> NDArray[np.bool_]:
        """Which records have a context that is judged, bool [record]."""
        return self.known >= self.settings.warm_records

    def projection(self, learn: int) -> Projection:
        """The columns that are judged, as the first `learn` records have them."""
        usable = self.columns[:learn][self.warm[:learn]]
        if not self.entities:
            raise DataError(
                f"no record has an entity at record.entity_path, {self.basis.spec.entity_path!r}: correct it, set it to "
                '"" (then each partition is one entity), or set context.enabled: false'
            )
        if len(usable) < FEWEST:
            raise DataError(
                f"{len(usable):,} records have a context to learn from, {FEWEST} are the least: give more records of each "
                f"entity, lower context.warm_records ({self.settings.warm_records}), or set context.enabled: false"
            )
        return Projection.fit(usable, min(self.settings.columns, self.columns.shape[1]))

    def model(self, profiles: Profiles, projection: Projection, alone: Matrix, view: Matrix) -> ContextModel:
        """What the model makes of contexts, calibrated on nines [record] of the same new records, alone and by context."""
        combined = TailTable.fit((alone.astype(np.float64) + view)[:, None])
        unusual = self.settings.new_entity == "unusual"
        first = (int((self.known == 0).sum()) + 0.5) / (len(self.known) + 1)
        newness = -math.log10(first) if unusual else 0.0
        basis = self.basis
        return ContextModel(
            basis.spec, basis.population, profiles, projection, combined, self.settings.warm_records, max(newness, 0.0)
        )


def numeric(schema: FeatureSchema) -> Places:
    """The positions of the features that have a context: numbers that are judged, int64."""
    features = enumerate(schema.features)
    return np.array([at for at, each in features if each.kind is Kind.NUMERIC and not each.context], np.int64)


def contextual(settings: ContextConfig, schema: FeatureSchema, matrix: Matrix, logs: TeachingLogs) -> ContextData:
    """Reads the contexts of all records [record, feature], log by log. Raises `DataError` without a numeric feature."""
    basis = ContextBasis.of(settings, schema, matrix, logs.entity_path, logs.time_path)
    values = matrix[:, numeric(schema)].astype(np.float64)
    columns, known = np.empty((len(matrix), 0), np.float32), np.zeros(len(matrix), np.int64)
    whose, hours = np.full(len(matrix), None, np.object_), np.full(len(matrix), NO_TIME)
    entities, timed = 0, 0
    for log in logs.parts:
        rows = EntityRows.of(basis.spec, log.offsets, log.entities, log.times, log.received, values[log.places])
        said, taught = basis.read(PartitionContext(basis.spec), rows)
        if not columns.shape[1]:
            columns = np.full((len(matrix), said.shape[1]), np.nan, np.float32)
        columns[log.places], known[log.places] = said, taught
        whose[log.places], hours[log.places] = rows.entities, rows.hours
        entities += len({*rows.entities} - {None})
        timed += int((rows.times != NO_TIME).sum())
    in_order = [log.places for log in logs.parts]
    return ContextData(basis, columns, known, values, whose, hours, in_order, entities, timed)


def in_time(logs: Sequence[Places], seed: int) -> tuple[Places, Places, Places]:
    """Records to learn from, to choose the checkpoint on and to calibrate on: of each log the first, the next and the last."""
    parts: tuple[list[Places], list[Places], list[Places]] = ([], [], [])
    for log in logs:
        ends = [int(cut * len(log)) for cut in CUTS]
        for part, places in zip(parts, np.split(log, ends), strict=True):
            part.append(places)
    learn, *held = (np.concatenate(part) for part in parts)
    rng = np.random.default_rng(seed)
    selection, calibration = (
        part if len(part) <= MOST_HELD_OUT else np.sort(rng.choice(part, MOST_HELD_OUT, replace=False)) for part in held
    )
    return learn, selection, calibration


def _population(values: NDArray[np.float64]) -> Population:
    """What is usual among all records [record, feature]: medians, and variances that few far records do not widen."""
    values = np.where(np.isnan(values).all(axis=0), 0.0, values)
    centre = np.nanmedian(values, axis=0)
    variance = np.square(1.4826 * np.nanmedian(np.abs(values - centre), axis=0))
    variance = np.where(variance > 0, variance, np.nanvar(values, axis=0))
    return Population(centre, np.maximum(variance, LEAST_VARIANCE * (1 + np.square(centre))), WEIGHT)
