"""A model on trial: it scores records of another model's schema, at the threshold it would serve with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from stream_detector.config import ThresholdConfig
from stream_detector.detector import limits
from stream_detector.features import Encoded, FeatureSchema, Kind
from stream_detector.gan.training import TrainingSet
from stream_detector.model import DetectorModel
from stream_detector.tracking.detection import Probe, auc
from stream_detector.tracking.generated import Generated, near_records

__all__ = ["Contender", "Matrix", "in_context", "recoded"]

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Contender:
    """A model and the schema in which its records will come; `threshold` in nines.

    `views` are by the name of a part of the trial the nines float32 [record] of its records' contexts, as the model has
    them; NaN where a context says nothing. Records of other parts are judged alone.
    """

    model: DetectorModel
    schema: FeatureSchema
    threshold: float
    views: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: DetectorModel,
        schema: FeatureSchema,
        threshold: ThresholdConfig,
        views: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> "Contender":
        """Makes a contender at the threshold that the model's calibration gives for the target alert rate."""
        return cls(model, schema, limits(model, threshold).nominal, views or {})

    def scores(self, matrix: Matrix, part: str = "") -> NDArray[np.float64]:
        """Anomaly scores [record], in nines; of a `part` of the trial by their contexts, too, where the model has some."""
        records = recoded(matrix, self.schema, self.model.schema)
        return in_context(self.model, records, self.views.get(part)).astype(np.float64)

    def flagged(self, matrix: Matrix, part: str = "") -> float:
        """The share of records that would be flagged, 0 to 1; NaN where there are no records."""
        return float((self.scores(matrix, part) > self.threshold).mean()) if len(matrix) else np.nan

    def area(self, normal: Matrix, anomalous: Sequence[Matrix]) -> float:
        """Mean area under the ROC curve over the sets of anomalies, 0 to 1."""
        usual = self.scores(normal)
        return float(np.mean([auc(usual, self.scores(some)) for some in anomalous]))

    def coverage(self, normal: Matrix, seed: int) -> float:
        """The least share, over the generators, of normal records that generated ones come near."""
        scorer = self.model.scorer
        prepared = scorer.normaliser(normal)
        data = TrainingSet(*map(torch.from_numpy, (prepared.views, prepared.context, prepared.present)))
        probe = Probe.make(scorer.normaliser, data, normal, normal, seed)
        return min(fit.coverage for fit in Generated.draw(scorer.gan, probe, seed, near_records).joint(probe))


def in_context(model: DetectorModel, matrix: Matrix, view: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Anomaly scores float32 [record] of records alone, joined with the nines of their contexts where there are some."""
    alone = model.score_alone(Encoded.whole(matrix))
    return alone.anomaly if view is None else model.joined(alone, view).anomaly


def recoded(matrix: Matrix, source: FeatureSchema, target: FeatureSchema) -> Matrix:
    """Converts records [record, feature] to another schema with the same features: order, category codes, origins."""
    if source == target:
        return matrix
    columns = []
    for feature in target.features:
        at = source.names.index(feature.name)
        column = matrix[:, at]
        if feature.kind is Kind.CATEGORICAL:
            codes = {category: code for code, category in enumerate(feature.vocabulary)}
            unseen = len(feature.vocabulary)
            known = [codes.get(category, unseen) for category in source.features[at].vocabulary]
            table = np.array([*known, unseen], dtype=np.float32)
            column = np.where(np.isnan(column), np.nan, table[np.nan_to_num(column).astype(int)])
        elif shift := source.features[at].origin - feature.origin:
            column = (column.astype(np.float64) + shift).astype(np.float32)
        columns.append(column)
    return np.stack(columns, axis=1).astype(np.float32)
