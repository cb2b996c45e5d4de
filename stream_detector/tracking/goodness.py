"""Measures how well generated records fit held-out real ones, feature by feature and jointly.

Joint figures are taken in the leading principal components of the real records: neighbourhoods
mean little in many dimensions, and a generator whose latent is narrower than the data cannot reproduce
noise that no component carries.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FeatureFit", "JointFit", "feature_fit", "is_collapsed", "joint_fit"]

Floats = NDArray[np.float64]
COMPONENTS = 8
NEIGHBOURS = 5
LEAST_RADIUS = 0.05  # of the mean distance of real records: repeated records have no neighbourhood of their own
COLLAPSED_COVERAGE = 0.15  # of real records with a generated one near them; a sound generator reaches 0.5 and more
COLLAPSED_DIVERSITY = 0.5  # of the real records' mean distance from each other


@dataclass(frozen=True, slots=True)
class FeatureFit:
    """One feature's fit: Kolmogorov-Smirnov distance in [0, 1], and 1-Wasserstein distance in the
    real values' standard deviations; 0 = the same distribution. NaN where the real values are constant.
    """

    ks: float
    wasserstein: float


@dataclass(frozen=True, slots=True)
class JointFit:
    """The fit over all columns at once.

    `energy`: energy distance over its largest value, in [0, 1], 0 = the same distribution.
    `coverage` and `density` (Naeem et al. 2020): share of real records with a generated one in
    their neighbourhood, in [0, 1], and in how many real neighbourhoods a generated record is,
    against a real one; 1 = as many. `precision` (Kynkaanniemi et al. 2019): share of
    generated records in any real neighbourhood, in [0, 1]. `diversity`: mean distance of generated
    records from each other over that of real ones; 0 = all the same.
    """

    energy: float
    coverage: float
    density: float
    precision: float
    diversity: float


def feature_fit(real: Floats, generated: Floats) -> FeatureFit:
    """The fit of one feature's values [record]; missing values are left out."""
    real, generated = (np.sort(values[~np.isnan(values)]) for values in (real, generated))
    if not len(real) or not len(generated) or real[0] == real[-1]:
        return FeatureFit(np.nan, np.nan)
    both = np.concatenate((real, generated))
    both.sort()
    below = [np.searchsorted(values, both, side="right") / len(values) for values in (real, generated)]
    gap = np.abs(below[0] - below[1])
    return FeatureFit(float(gap.max()), float((gap[:-1] * np.diff(both)).sum() / real.std()))


def joint_fit(real: Floats, generated: Floats) -> JointFit:
    """The joint fit of columns [record, column] of real and generated records, at least 2 of each."""
    axes, centre = _leading(real)
    real, generated = (real - centre) @ axes, (generated - centre) @ axes
    among, across = _distances(real, real), _distances(real, generated)
    apart, between = _mean_apart(among), float(across.mean())
    if apart == 0:  # one record, over and over: there is nothing to cover
        return JointFit(float(between > 0), 1.0, 1.0, 1.0, 1.0)
    inner = _mean_apart(_distances(generated, generated))
    nearest = min(NEIGHBOURS, len(real) - 1)
    radius = np.maximum(np.sort(among, axis=1)[:, nearest], LEAST_RADIUS * apart)
    inside = across <= radius[:, None]
    others = float((among <= radius[:, None]).sum(0).mean()) - 1
    return JointFit(
        energy=float(np.clip((2 * between - apart - inner) / (2 * between), 0, 1)),
        coverage=float(inside.any(1).mean()),
        density=float(inside.sum(0).mean()) / others,
        precision=float(inside.any(0).mean()),
        diversity=inner / apart,
    )


def is_collapsed(fit: JointFit) -> bool:
    """Tells whether the generator makes only a few kinds of records: it covers little and varies little."""
    return fit.coverage < COLLAPSED_COVERAGE and fit.diversity < COLLAPSED_DIVERSITY


def _leading(real: Floats) -> tuple[Floats, Floats]:
    """Principal axes [column, component] and centre [column] of real records."""
    centre = real.mean(0)
    axes = np.linalg.svd(real - centre, full_matrices=False)[2]
    return axes[:COMPONENTS].T, centre


def _distances(first: Floats, second: Floats) -> Floats:
    """Euclidean distances [first, second]."""
    squared = np.square(first).sum(1)[:, None] + np.square(second).sum(1) - 2 * first @ second.T
    distances: Floats = np.sqrt(np.maximum(squared, 0))
    return distances


def _mean_apart(distances: Floats) -> float:
    """Mean distance of two different records."""
    count = len(distances)
    apart = float(distances.sum() - np.trace(distances)) / (count * (count - 1))
    return apart if apart > 1e-6 else 0.0
