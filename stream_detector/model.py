"""The fitted model: score, explain, save, load. Immutable once made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from stream_detector import foreign
from stream_detector.absence import compared, present_names, telling
from stream_detector.artifact import Artifact, pack, unpack
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
from stream_detector.scoring.scorer import Scorer
from stream_detector.tables.frames import Records, as_numbers, as_rows, is_float32

__all__ = ["DetectorModel", "Scores", "as_matrix", "pick_device", "scored"]

MOST_LACKING = 0.1  # of the records fitted on, that may lack a feature which is nearly always there


@dataclass(frozen=True, slots=True)
class Scores:
    """Float32 arrays [record] in nines (-log10 of a tail probability: 3.0 = one normal record in
    1,000 scores as high); higher = more anomalous; finite; 6 significant digits.

    `inversion` and `discriminator` are the two opinions, `anomaly` what the model's mode makes of them; `others` are
    by name the opinions of other scorers that the model has.
    """

    inversion: NDArray[np.float32]
    discriminator: NDArray[np.float32]
    anomaly: NDArray[np.float32]
    others: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(cls, panel: Panel, scores: NDArray[np.float32]) -> Self:
        """Names the opinions that a panel tells, and the anomaly score [score, record]."""
        inversion, discriminator, *others, anomaly = scores  # the networks' own opinions come first
        return cls(inversion, discriminator, anomaly, dict(zip(panel.told[2:], others, strict=True)))

    def flagged(self, rate: float) -> NDArray[np.bool_]:
        """Flags the records that score higher than a share `rate` of normal ones does, bool [record].

        Raises `DataError` unless the rate is above 0 and below 1.
        """
        flagged: NDArray[np.bool_] = self.anomaly > np.float32(Calibration.quantile(rate))
        return flagged

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores, in the order of `columns`."""
        return ("inversion", "discriminator", *self.others, "anomaly")

    def of_record(self, row: int) -> NDArray[np.float32]:
        """The scores of one record [score], in the order of `columns`."""
        return np.array([scores[row] for scores in self._arrays])

    def columns(self) -> NDArray[np.float32]:
        """All scores [record, score]: inversion, discriminator, others, anomaly."""
        return np.stack(self._arrays, axis=1)

    @property
    def _arrays(self) -> tuple[NDArray[np.float32], ...]:
        return (self.inversion, self.discriminator, *self.others.values(), self.anomaly)


@dataclass(frozen=True)
class DetectorModel:
    """Networks, normaliser and calibration of one fit.

    `metrics` are figures of the training; `lineage` is whatever the maker wants kept about where
    the model came from (JSON values); both travel in the artifact, and so do the `golden` scores.
    """

    scorer: Scorer
    calibration: Calibration
    config: ModelConfig
    metrics: Mapping[str, float]
    lineage: Mapping[str, Any]
    golden: Golden

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
        return f"<DetectorModel {self.version[:12]}: {len(self.schema.features)} features, fitted on {records:,.0f} records>"

    @property
    def schema(self) -> FeatureSchema:
        """The features that the model was fitted on, with their vocabularies."""
        return self.scorer.normaliser.layout.schema

    @cached_property
    def version(self) -> str:
        """SHA-256 of the artifact's bytes, hexadecimal."""
        return sha256(self.to_bytes()).hexdigest()

    @np.errstate(**AS_NUMPY_HAS_IT)
    def score(self, X: Records) -> Scores:
        """Scores records.

        X: float [record, feature] in the input's units (category codes, NaN = missing), a list of
        mappings from feature name to number, string or None, or a DataFrame (pandas, polars, Arrow)
        or structured array, whose columns are taken by name. A record scores the same to
        the bit in any batch and order. Raises `DataError` on another width, on infinities and on
        mappings that do not fit the schema.
        """
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
        self.golden.verify(lambda records: self.score(Encoded.whole(records)).columns())

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
        return self.score(Encoded.whole(matrix)).anomaly

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
        return replace(self, scorer=self.scorer.to(pick_device(device)))

    def to_bytes(self) -> bytes:
        """The artifact: safetensors whose metadata is one JSON header; equal models, equal bytes."""
        return pack(Artifact(self.scorer, self.calibration, self.config, self.metrics, self.lineage, self.golden))

    @classmethod
    def from_bytes(cls, data: bytes, device: str = "auto") -> "DetectorModel":
        """The model in an artifact. Raises `ModelFormatError` when it is not one, or is damaged."""
        parts = unpack(data)
        model = cls(parts.scorer, parts.calibration, parts.config, parts.metrics, parts.lineage, parts.golden)
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
