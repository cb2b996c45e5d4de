"""Measures how well scores tell synthetic anomalies from held-out normal records, size by size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stream_detector.gan.networks import Gan
from stream_detector.gan.training import TrainingSet
from stream_detector.normaliser import Normaliser
from stream_detector.tracking.synthetic import SIZES, Spread, displaced

__all__ = ["OPERATING_RATE", "Detection", "Opinions", "Probe", "auc", "detection", "roc"]

Floats = NDArray[np.float64]
NORMAL_ROWS = 512
ANOMALY_ROWS = 256  # of each size
REFERENCE_ROWS = 2048
OPERATING_RATE = 0.01  # of held-out normal records: with a few hundred of them no rarer rate can be measured


@dataclass(frozen=True, slots=True)
class Probe:
    """The records that a training is measured on, the same at every step.

    `matrix` float32 [record, feature] are held-out normal records and anomalies made from them, in
    the input's units; `sizes` [record] says which is which: 0 = normal, else the anomaly's size in
    standard deviations. `records` are `matrix`, normalised; `reference` are training records.
    """

    normaliser: Normaliser
    matrix: NDArray[np.float32]
    sizes: Floats
    records: TrainingSet
    reference: TrainingSet

    @property
    def held(self) -> NDArray[np.float32]:
        """The normal records [record, feature]; they come first."""
        held: NDArray[np.float32] = self.matrix[self.sizes == 0]
        return held

    @classmethod
    def make(
        cls,
        normaliser: Normaliser,
        data: TrainingSet,
        learn: NDArray[np.float32],
        held: NDArray[np.float32],
        seed: int,
    ) -> "Probe":
        """Makes a probe of the training records, normalised (`data`) and not (`learn`), and held-out ones."""
        rng = np.random.default_rng((seed, 1))
        schema = normaliser.layout.schema
        context = [feature.context for feature in schema.features]
        spread = Spread.of(schema, learn[:REFERENCE_ROWS])
        normal = held[:NORMAL_ROWS]
        parts, sizes = [normal], [np.zeros(len(normal))]
        for size in SIZES:
            rows = normal[rng.integers(len(normal), size=ANOMALY_ROWS)]
            parts.append(displaced(rows, spread, context, size, rng))
            sizes.append(np.full(ANOMALY_ROWS, size))
        matrix = np.concatenate(parts)
        prepared = normaliser(matrix)
        records = TrainingSet(*map(torch.from_numpy, (prepared.views, prepared.context, prepared.present)))
        few = slice(0, REFERENCE_ROWS)
        reference = TrainingSet(data.views[:, few], data.context[few], data.present[few])
        return cls(normaliser, matrix, np.concatenate(sizes), records, reference)


Opinions = Callable[[Gan, Probe], Mapping[str, Floats]]
"""From networks and a probe to scores [record] by opinion, higher = more anomalous."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Detection of one size by one opinion: area under the ROC curve in [0, 1], and what a threshold
    that `OPERATING_RATE` of the held-out normal records exceed does: numbers of records.
    """

    opinion: str
    size: float
    auc: float
    threshold: float
    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int


def detection(opinion: str, scores: Floats, sizes: Floats) -> list[Detection]:
    """A `Detection` for every size of anomaly in `sizes` [record], 0 being the normal records."""
    normal = np.sort(scores[sizes == 0])
    threshold = float(np.quantile(normal, 1 - OPERATING_RATE))
    false = int((normal > threshold).sum())
    found = []
    for size in np.unique(sizes[sizes > 0]):
        anomalous = scores[sizes == size]
        true = int((anomalous > threshold).sum())
        counts = (true, len(anomalous) - true, false, len(normal) - false)
        found.append(Detection(opinion, float(size), auc(normal, anomalous), threshold, *counts))
    return found


def auc(normal: Floats, anomalous: Floats) -> float:
    """Probability that an anomalous score exceeds a normal one, ties counting half; in [0, 1]."""
    ordered = np.sort(normal)
    below = np.searchsorted(ordered, anomalous, side="left")
    reached = np.searchsorted(ordered, anomalous, side="right")
    return float((below + reached).mean() / (2 * len(ordered)))


def roc(normal: Floats, anomalous: Floats) -> tuple[Floats, Floats]:
    """False and true positive rates at every threshold, both from 0 to 1."""
    thresholds = np.unique(np.concatenate((normal, anomalous)))
    ordered = [np.sort(scores) for scores in (normal, anomalous)]
    rates = [1 - np.searchsorted(scores, thresholds, side="left") / len(scores) for scores in ordered]
    false, true = (np.concatenate((rate, [0.0]))[::-1] for rate in rates)
    return false, true
