"""A model on trial: it scores records of another model's schema, at the threshold it would serve with."""

from collections.abc import Sequence
from dataclasses import dataclass

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

__all__ = ["Contender", "Matrix", "recoded"]

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Contender:
    """A model and the schema in which its records will come; `threshold` in nines."""

    model: DetectorModel
    schema: FeatureSchema
    threshold: float

    @classmethod
    def of(cls, model: DetectorModel, schema: FeatureSchema, threshold: ThresholdConfig) -> "Contender":
        """Makes a contender at the threshold that the model's calibration gives for the target alert rate."""
        return cls(model, schema, limits(model, threshold).nominal)

    def scores(self, matrix: Matrix) -> NDArray[np.float64]:
        """Anomaly scores [record], in nines."""
        return self.model.score(Encoded.whole(recoded(matrix, self.schema, self.model.schema))).anomaly.astype(
            np.float64
        )

    def flagged(self, matrix: Matrix) -> float:
        """The share of records that would be flagged, 0 to 1; NaN where there are no records."""
        return float((self.scores(matrix) > self.threshold).mean()) if len(matrix) else np.nan

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
