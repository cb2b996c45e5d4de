"""Synthetic anomalies of a given size: normal records, moved in the input's units.

They need no labels and can be made as small as one likes, so they show where detection begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_detector.features import FeatureSchema, Kind

__all__ = ["SIZES", "Spread", "displaced"]

SIZES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # standard deviations
FLOAT32_MAX = float(np.finfo(np.float32).max)
Records = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of each feature: `width` float64 [feature], one standard deviation of its bulk, and
    whether it takes steps (`discrete`, bool [feature]) instead of any value between.
    """

    width: NDArray[np.float64]
    discrete: NDArray[np.bool_]

    @classmethod
    def of(cls, schema: FeatureSchema, matrix: Records) -> "Spread":
        """Measures the spread on normal records [record, feature]; missing values are left out."""
        columns = [column[~np.isnan(column)].astype(np.float64) for column in matrix.T]
        steps = [
            feature.kind is Kind.CATEGORICAL or len(np.unique(column[:2000])) <= 2
            for feature, column in zip(schema.features, columns, strict=True)
        ]
        return cls(np.array([_width(column) for column in columns]), np.array(steps, dtype=np.bool_))


def displaced(
    normal: Records, spread: Spread, context: Sequence[bool], size: float, rng: np.random.Generator
) -> Records:
    """Records [record, feature], each moved by `size` standard deviations on a random set of features.

    Every other record is shifted by the same size up or down, the rest by Gaussian noise of that
    size; a discrete feature takes another record's value, the surer the larger the size. Context
    features stay as they are.
    """
    touched = _touched(normal.shape, np.asarray(context), rng)
    signs = np.where(rng.random(normal.shape) < 0.5, -1.0, 1.0)
    noise = rng.normal(size=normal.shape)
    shift = np.where((np.arange(len(normal)) % 2 == 0)[:, None], signs, noise)
    moved = normal + size * spread.width * shift
    others = np.take_along_axis(normal, rng.integers(len(normal), size=normal.shape), axis=0)
    swapped = np.where(rng.random(normal.shape) < 1 - np.exp(-size), others, normal)
    chosen = np.where(touched, np.where(spread.discrete, swapped, moved), normal)
    return np.clip(chosen, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)


def _touched(shape: tuple[int, ...], context: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A random share of each record's judged features, at least one."""
    order = np.where(context, np.inf, rng.random(shape)).argsort(1).argsort(1)
    judged = int((~context).sum())
    count = np.ceil(rng.random((shape[0], 1)) * judged)
    return (order < np.maximum(count, 1)) & ~context


def _width(column: NDArray[np.float64]) -> float:
    """Half of what holds the middle 68 % of a normal distribution; the deviation where that is 0."""
    if not len(column):
        return 0.0
    low, high = np.quantile(column, (0.1587, 0.8413))
    return float((high - low) / 2) or float(column.std())
