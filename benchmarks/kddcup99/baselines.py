"""What well-known detectors make of the same records: fitted on the same normal ones, labels withheld."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees
from sklearn.ensemble import IsolationForest

from stream_detector.features import FeatureSchema, Kind

__all__ = ["Baseline", "baselines"]

EVERY = 10  # HalfSpaceTrees scores each tenth record: it takes one at a time
TREES, HEIGHT, WINDOW = 25, 10, 1_000

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Baseline:
    """Scores of some of the replayed records: `rows` are positions among them; higher = more anomalous."""

    name: str
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    records_per_s: float


def baselines(schema: FeatureSchema, training: Matrix, replayed: Matrix) -> list[Baseline]:
    """IsolationForest on all replayed records and HalfSpaceTrees on every tenth of them."""
    low, high = training.min(0), training.max(0)
    tenth = np.arange(0, len(replayed), EVERY)
    return [
        _run("IsolationForest (scikit-learn)", _forest, _one_hot(schema, training), _one_hot(schema, replayed), None),
        _run(
            "HalfSpaceTrees (river), every 10th record",
            _trees,
            _unit(training, low, high),
            _unit(replayed, low, high),
            tenth,
        ),
    ]


def _run(
    name: str,
    score: Callable[[Matrix, Matrix], tuple[NDArray[np.float64], float]],
    training: Matrix,
    replayed: Matrix,
    rows: NDArray[np.int64] | None,
) -> Baseline:
    rows = np.arange(len(replayed)) if rows is None else rows
    scores, seconds = score(training, replayed[rows])
    return Baseline(name, rows, scores, len(rows) / seconds)


def _forest(training: Matrix, replayed: Matrix) -> tuple[NDArray[np.float64], float]:
    forest = IsolationForest(n_estimators=100, random_state=0).fit(training)
    start = time.perf_counter()
    return -forest.score_samples(replayed), time.perf_counter() - start


def _trees(training: Matrix, replayed: Matrix) -> tuple[NDArray[np.float64], float]:
    """Learns from the training records only, as the others do."""
    trees = HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=WINDOW, seed=0)
    for row in training.tolist():
        trees.learn_one(dict(enumerate(row)))
    start = time.perf_counter()
    scores = np.array([trees.score_one(dict(enumerate(row))) for row in replayed.tolist()])
    return scores, time.perf_counter() - start


def _unit(matrix: Matrix, low: Matrix, high: Matrix) -> Matrix:
    """Columns in [0, 1] over the training records, as HalfSpaceTrees demands; category codes too."""
    return np.clip((matrix - low) / np.where(high > low, high - low, 1), 0, 1)


def _one_hot(schema: FeatureSchema, matrix: Matrix) -> Matrix:
    """Numbers as they are, categories as a column each."""
    columns: list[Matrix] = []
    for column, feature in enumerate(schema.features):
        values = matrix[:, column]
        if feature.kind is Kind.CATEGORICAL:
            columns += [(values == code).astype(np.float32) for code in range(len(feature.vocabulary) + 1)]
        else:
            columns.append(values)
    return np.column_stack(columns)
