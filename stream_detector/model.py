"""The fitted model: score, explain, save, load. Immutable once made."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_detector import foreign
from stream_detector.absence import compared, present_names, telling
from stream_detector.artifact import Artifact, pack, unpack
from stream_detector.context.context_model import ContextModel, EntityRows
from stream_detector.context.inputs import Given, entities, event_times
from stream_detector.errors import DataError, ModelFormatError, ModelNotFoundError
from stream_detector.features import Encoded, FeatureSchema, encode
from stream_detector.gan.settings import ModelConfig
from stream_detector.golden import Golden
from stream_detector.runtime.files import write_file
from stream_detector.runtime.host import AS_NUMPY_HAS_IT
from stream_detector.scoring.calibration import Calibration, significant
from stream_detector.scoring.device import DeviceScorer, raw_scores
from stream_detector.scoring.explanation import Explanation, absent_shares, explain
from stream_detector.scoring.opinions import Panel, RawScores
from stream_detector.scoring.scorer import Scorer, Scores
from stream_detector.tables.frames import Records, as_numbers, as_rows, is_float32

__all__ = ["DetectorModel", "ModelStream", "Scores", "as_matrix", "pick_device", "scored"]

MOST_LACKING = 0.1  # of the records fitted on, that may lack a feature which is nearly always there


@dataclass(frozen=True)
class DetectorModel:
    """Networks, normaliser and calibration of one fit.

    `metrics` are figures of the training; `lineage` is whatever the maker wants kept about where
    the model came from (JSON values); both travel in the artifact, and so do the `golden` scores. A model with a
    `context` has a second detector, `view`, which judges what the context says.
    """

    scorer: Scorer
    calibration: Calibration
    config: ModelConfig
    metrics: Mapping[str, float]
    lineage: Mapping[str, Any]
    golden: Golden
    context: ContextModel | None = None
    view: "DetectorModel | None" = None

    @classmethod
    def made(
        cls,
        scorer: Scorer,
        calibration: Calibration,
        config: ModelConfig,
        metrics: Mapping[str, float],
        normal: NDArray[np.float32],
        seed: int,
    ) -> "DetectorModel":
        """Makes a model of what was just fitted; its golden batch is drawn from `normal` records [record, feature]."""

        def score(records: NDArray[np.float32]) -> NDArray[np.float32]:
            return scored(calibration, scorer.panel, raw_scores(scorer, records)).columns()

        return cls(scorer, calibration, config, metrics, {}, Golden.of(normal, score, seed))

    def __repr__(self) -> str:
        records = sum(self.metrics.get(part, 0) for part in ("records", "held_out"))
        spec, entities = self.context and self.context.spec, self.lineage.get("context", {}).get("entities", 0)
        context = f", context {spec.hash} of {entities:,} entities, {spec.zone}" if spec else ""
        told = f"{len(self.schema.features)} features, fitted on {records:,.0f} records"
        return f"<DetectorModel {self.version[:12]}: {told}{context}>"

    @property
    def schema(self) -> FeatureSchema:
        """The features that the model was fitted on, with their vocabularies."""
        return self.scorer.normaliser.layout.schema

    @cached_property
    def version(self) -> str:
        """SHA-256 of the artifact's bytes, hexadecimal."""
        return sha256(self.to_bytes()).hexdigest()

    def score(
        self,
        X: Records,
        entity: Given | None = None,
        time: Given | None = None,
        offset: Given | None = None,
    ) -> Scores:
        """Scores records.

        X: float [record, feature] in the input's units (category codes, NaN = missing), a list of
        mappings from feature name to number, string or None, or a DataFrame (pandas, polars, Arrow)
        or structured array, whose columns are taken by name. Without a context, a record scores the same to
        the bit in any batch and order. With one, records are those of one partition in order, of which nothing is known
        before: `entity` [record] names whose they are (text, numbers, None), `time` [record] is datetime64, datetimes,
        RFC 3339 text or numbers since 1970, and `offset` [record] ascends, by default 0, 1, … `stream` goes on where the
        last records ended. Raises `DataError` on another width, on infinities, on
        mappings that do not fit the schema, and on entities or times for a model without a context.
        """
        if self.context is None and entity is None and time is None:
            return self.score_alone(X)
        return self.stream().score(X, entity, time, offset)

    def stream(self) -> "ModelStream":
        """Begins a stream of records of one partition, whose context goes on from call to call."""
        return ModelStream(self)

    @np.errstate(**AS_NUMPY_HAS_IT)
    def score_alone(self, X: Records) -> Scores:
        """Scores records without their context; X and errors as for `score`."""
        matrix = as_matrix(X, self.schema)
        if self.device_scorer:
            return Scores.of(self.scorer.panel, self.device_scorer(matrix))
        return scored(self.calibration, self.scorer.panel, self.scorer.raw(matrix))

    @cached_property
    def device_scorer(self) -> DeviceScorer | None:
        """The scorer of a float32 matrix on another device than the CPU, for any thread; None on the CPU."""
        if self.scorer.device.type == "cpu":
            return None
        return DeviceScorer.calibrated(self.scorer, self.calibration)

    def threshold(self, rate: float) -> float:
        """The anomaly score, in nines, that a share `rate` of normal records exceeds.

        It is what a worker whose `threshold.target_alert_rate` is `rate` begins with. Raises
        `DataError` unless the rate is above 0 and below 1.
        """
        return self.calibration.quantile(rate)

    def verify(self) -> None:
        """Scores the golden batch; raises `ModelFormatError` when the scores are not those it was made with."""
        self.golden.verify(lambda records: self.score_alone(Encoded.whole(records)).columns())
        if self.view:
            self.view.verify()

    @np.errstate(**AS_NUMPY_HAS_IT)
    def explain(self, X: Records) -> list[Explanation]:
        """Explains what is unlike normal about each record, feature by feature; X as for `score`."""
        matrix = as_matrix(X, self.schema)
        if not len(matrix):
            return []
        missing = np.isnan(matrix) & self.judged
        absent = absent_shares(matrix, missing, self.scorer.completed, self._anomaly)
        explanations = explain(self.schema, matrix, *self.scorer.expect(matrix), absent)
        rows = None if isinstance(X, Encoded) else as_rows(X)
        if rows is None:
            return explanations
        return [each.revealing(partial(_shown, row)) for each, row in zip(explanations, rows, strict=True)]

    def _anomaly(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.score_alone(Encoded.whole(matrix)).anomaly

    @cached_property
    def context_features(self) -> NDArray[np.int64]:
        """The positions of the features that its context is about, int64."""
        names = self.context.spec.features if self.context else ()
        return np.array([self.schema.names.index(name) for name in names], np.int64)

    def joined(self, alone: Scores, view: NDArray[np.float32]) -> Scores:
        """Joins scores of records alone with nines float32 [record] of their contexts, NaN where these say nothing."""
        assert self.context is not None
        views = {"record": alone.anomaly, "context": view}
        return replace(alone, anomaly=self.context.joined(alone.anomaly, view), views=views)

    @cached_property
    def judged(self) -> NDArray[np.bool_]:
        """Marks the features that are judged, the others being context, bool [feature]."""
        return np.array([not feature.context for feature in self.schema.features])

    @cached_property
    def usual_features(self) -> NDArray[np.bool_]:
        """Judged features that nearly all records have that it was fitted on, bool [feature]."""
        return self.judged & (self.missing_shares <= MOST_LACKING)

    @cached_property
    def missing_shares(self) -> NDArray[np.float64]:
        """The share of the records it keeps that lack each feature, float64 [feature]."""
        shares: NDArray[np.float64] = np.isnan(self.scorer.kept).mean(0)
        return shares

    def with_lineage(self, lineage: Mapping[str, Any]) -> "DetectorModel":
        """Copies the model with other lineage, hence another version."""
        return replace(self, lineage=lineage)

    def to(self, device: str) -> "DetectorModel":
        """Copies the model with its networks on `device`: "cpu", "cuda" or "auto"."""
        view = self.view and self.view.to(device)
        return replace(self, scorer=self.scorer.to(pick_device(device)), view=view)

    def to_bytes(self) -> bytes:
        """The artifact: safetensors whose metadata is one JSON header; equal models, equal bytes."""
        view = self.view.to_bytes() if self.view else b""
        return pack(
            Artifact(
                self.scorer, self.calibration, self.config, self.metrics, self.lineage, self.golden, self.context, view
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes, device: str = "auto") -> "DetectorModel":
        """The model in an artifact. Raises `ModelFormatError` when it is not one, or is damaged."""
        parts = unpack(data)
        view = cls.from_bytes(parts.view, device) if parts.view else None
        if parts.context and (view is None or len(view.schema.features) != len(parts.context.projection.axes)):
            raise ModelFormatError("the model's context has another number of columns than the detector that judges it")
        model = cls(
            parts.scorer,
            parts.calibration,
            parts.config,
            parts.metrics,
            parts.lineage,
            parts.golden,
            parts.context,
            view,
        )
        return model.to(device)

    def save(self, path: str | Path) -> None:
        """Writes the artifact to `path`; an older file there is replaced in one step.

        Raises `WriteError` when it cannot be written; the older file is then as it was.
        """
        write_file(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "DetectorModel":
        """The model in a file. Raises `ModelNotFoundError` without one, else as `from_bytes`."""
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError as error:
            raise ModelNotFoundError(f"{path}: no such model file; make one with `stream-detector fit`") from error
        try:
            return cls.from_bytes(data, device)
        except ModelFormatError as error:
            raise ModelFormatError(f"{path}: {error}") from error


class ModelStream:
    """Scores records of one partition, call after call, each by what came before it. One thread at a time."""

    def __init__(self, model: DetectorModel) -> None:
        self._model = model
        self._context = model.context.begin() if model.context else None
        self._next = 0

    def score(
        self,
        X: Records,
        entity: Given | None = None,
        time: Given | None = None,
        offset: Given | None = None,
    ) -> Scores:
        """Scores the records that come next; arguments, result and errors as for `DetectorModel.score`."""
        model = self._model
        if self._context is None or model.context is None or model.view is None:
            if entity is not None or time is not None:
                raise DataError("this model judges records alone; fit one with `entity` or `time`, or leave both out")
            return model.score_alone(X)
        matrix = as_matrix(X, model.schema)
        count = len(matrix)
        offsets = np.arange(self._next, self._next + count) if offset is None else np.asarray(offset, np.int64)
        self._require(offsets, count)
        names, times = entities(entity, count), event_times(time, count)
        rows = EntityRows.of(model.context.spec, offsets, names, times, None, matrix[:, model.context_features])
        columns, known = model.context.read(self._context, rows)
        asked = model.view.score_alone(Encoded.whole(columns[np.isnan(known)])).anomaly
        return model.joined(model.score_alone(Encoded.whole(matrix)), model.context.told(known, asked))

    def _require(self, offsets: NDArray[np.int64], count: int) -> None:
        """Raises `DataError` unless there is an offset for each record, and none goes back."""
        if offsets.shape != (count,):
            raise DataError(f"offsets have shape {list(offsets.shape)}; give one for each of {count:,} records")
        if count and (offsets[0] < self._next or (np.diff(offsets) < 0).any()):
            raise DataError(f"offsets must ascend from {self._next:,} on: a context is read in the order of the log")
        self._next = int(offsets[-1]) + 1 if count else self._next


def scored(calibration: Calibration, panel: Panel, raw: RawScores) -> Scores:
    """Turns raw scores into nines."""
    told = calibration(raw, panel)
    return Scores.of(panel, significant(told.ravel()).reshape(told.shape))


def as_matrix(X: Records, schema: FeatureSchema) -> NDArray[np.float32]:
    """Records as float32 [record, feature] of `schema`; raises `DataError` as `DetectorModel.score`."""
    if isinstance(X, Encoded):
        return X.matrix
    if (rows := as_rows(X)) is not None:
        encoded = encode(schema, rows)
        for position, rejection in encoded.rejected.items():
            raise DataError(f"record {position}: {rejection.message}")
        if rows and not telling(encoded, schema, rows).kept:
            raise DataError(f"no record has a feature that is judged: {compared(schema, present_names(rows))}")
        return encoded.matrix
    with np.errstate(over="ignore"):
        matrix = _less(np.asarray(X) if is_float32(X) else as_numbers(X), schema.origins)
    if matrix.ndim != 2 or matrix.shape[1] != len(schema.features):
        raise DataError(f"records have shape {list(matrix.shape)}; give [record, {len(schema.features)}]")
    if np.isinf(matrix).any():
        row, column = np.argwhere(np.isinf(matrix))[0]
        raise DataError(f"record {row}: feature {schema.names[column]!r} is infinite or beyond float32")
    for column in schema.categorical:
        codes = matrix[:, column][~np.isnan(matrix[:, column])]
        if (codes != np.floor(codes)).any() or (codes < 0).any():
            raise DataError(f"feature {schema.names[column]!r} is categorical; its values must be codes 0, 1, 2, …")
    return matrix


def _less(matrix: NDArray[np.floating[Any]], origins: NDArray[np.float64]) -> NDArray[np.float32]:
    """Records [record, feature] less their features' origins; as they are when they have another width."""
    if origins.any() and matrix.shape[1:] == origins.shape:
        matrix = matrix - origins
    return np.ascontiguousarray(matrix, dtype=np.float32)


def _shown(row: Mapping[str, Any], name: str) -> str | None:
    return foreign.category(row.get(name))


def pick_device(name: str) -> torch.device:
    """The device named; "auto" is the first CUDA device if there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
