"""Distributions whose density is known, by name, to study detectors on.

Every one is scaled so that a feature is a few units wide; records are float64 [record, feature].
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import lgamma, log, pi, sqrt

import numpy as np
import torch
from numpy.typing import NDArray

from stream_detector.errors import ConfigError

__all__ = ["DISTRIBUTIONS", "Distribution", "distribution"]

Floats = NDArray[np.float64]
LOG_ROOT_TWO_PI = 0.5 * log(2 * pi)


class Distribution(ABC):
    """A distribution of records with any number of features."""

    @abstractmethod
    def sample(self, rows: int, features: int, rng: np.random.Generator) -> Floats:
        """Draws records [row, feature]."""

    @abstractmethod
    def log_pdf(self, records: Floats) -> Floats:
        """Log density of records [record, feature], [record], in nats; -inf outside the support."""

    def cdf(self, values: Floats) -> Floats | None:
        """Share of any one feature's values at or below each of `values`; None where it has no closed form."""
        del values
        return None


@dataclass(frozen=True, slots=True)
class _Independent(Distribution):
    """Features drawn one by one from the same distribution."""

    draw: Callable[[np.random.Generator, tuple[int, int]], Floats]
    log_density: Callable[[Floats], Floats]
    share_below: Callable[[Floats], Floats]

    def sample(self, rows: int, features: int, rng: np.random.Generator) -> Floats:
        return self.draw(rng, (rows, features))

    def log_pdf(self, records: Floats) -> Floats:
        total: Floats = self.log_density(records).sum(1)
        return total

    def cdf(self, values: Floats) -> Floats | None:
        return self.share_below(values)


@dataclass(frozen=True, slots=True)
class _Mixture(Distribution):
    """Normal clusters of unit width; cluster centres alternate in sign from feature to feature."""

    centres: tuple[float, ...] = (-4.0, 0.0, 4.0)

    def _placed(self, features: int) -> Floats:
        """Centres [cluster, feature]."""
        return np.outer(self.centres, np.where(np.arange(features) % 2, -1.0, 1.0))

    def sample(self, rows: int, features: int, rng: np.random.Generator) -> Floats:
        cluster = rng.integers(len(self.centres), size=rows)
        records: Floats = self._placed(features)[cluster] + rng.normal(size=(rows, features))
        return records

    def log_pdf(self, records: Floats) -> Floats:
        distance = records[:, None, :] - self._placed(records.shape[1])
        by_cluster = _log_normal_density(distance).sum(2) - log(len(self.centres))
        total: Floats = np.logaddexp.reduce(by_cluster, axis=1)
        return total

    def cdf(self, values: Floats) -> Floats | None:
        share: Floats = np.mean([_normal_cdf(values - centre) for centre in self.centres], axis=0)
        return share


@dataclass(frozen=True, slots=True)
class _Correlated(Distribution):
    """Unit normals whose correlation decays with the distance of the features (first-order autoregression)."""

    correlation: float = 0.9

    def sample(self, rows: int, features: int, rng: np.random.Generator) -> Floats:
        noise = rng.normal(size=(rows, features))
        records = noise.copy()
        for feature in range(1, features):
            fresh = sqrt(1 - self.correlation**2) * noise[:, feature]
            records[:, feature] = self.correlation * records[:, feature - 1] + fresh
        return records

    def log_pdf(self, records: Floats) -> Floats:
        spread = sqrt(1 - self.correlation**2)
        fresh = (records[:, 1:] - self.correlation * records[:, :-1]) / spread
        total: Floats = _log_normal_density(records[:, 0]) + (_log_normal_density(fresh) - log(spread)).sum(1)
        return total

    def cdf(self, values: Floats) -> Floats | None:
        return _normal_cdf(values)


@dataclass(frozen=True, slots=True)
class _Rings(Distribution):
    """Pairs of features on noisy circles; an odd last feature is a unit normal."""

    radius: float = 3.0
    width: float = 0.3

    def sample(self, rows: int, features: int, rng: np.random.Generator) -> Floats:
        pairs = features // 2
        angle = rng.uniform(0, 2 * pi, (rows, pairs))
        radius = np.abs(rng.normal(self.radius, self.width, (rows, pairs)))
        records = rng.normal(size=(rows, features))
        records[:, 0 : 2 * pairs : 2], records[:, 1 : 2 * pairs : 2] = radius * np.cos(angle), radius * np.sin(angle)
        return records

    def log_pdf(self, records: Floats) -> Floats:
        pairs = records.shape[1] // 2
        radius = np.hypot(records[:, 0 : 2 * pairs : 2], records[:, 1 : 2 * pairs : 2])
        density = _log_normal_density((radius - self.radius) / self.width) - log(self.width)
        total: Floats = (density - np.log(2 * pi * radius)).sum(1)
        rest: Floats = _log_normal_density(records[:, 2 * pairs :]).sum(1)
        return total + rest


def _log_normal_density(values: Floats) -> Floats:
    density: Floats = -0.5 * np.square(values) - LOG_ROOT_TWO_PI
    return density


def _normal_cdf(values: Floats) -> Floats:
    share: Floats = torch.special.ndtr(torch.from_numpy(np.asarray(values, dtype=np.float64))).numpy()
    return share


def _uniform_log_density(values: Floats) -> Floats:
    return np.where(np.abs(values) <= 2, -log(4), -np.inf)


def _student_log_density(values: Floats) -> Floats:
    """The log density with three degrees of freedom: the fewest, in whole numbers, with a finite variance."""
    constant = lgamma(2) - lgamma(1.5) - 0.5 * log(3 * pi)
    density: Floats = constant - 2 * np.log1p(np.square(values) / 3)
    return density


def _student_cdf(values: Floats) -> Floats:
    scaled = values / sqrt(3)
    share: Floats = 0.5 + (np.arctan(scaled) + scaled / (1 + np.square(scaled))) / pi
    return share


def _skewed_log_density(values: Floats) -> Floats:
    logarithm = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    return np.where(values > 0, _log_normal_density(logarithm) - logarithm, -np.inf)


def _skewed_cdf(values: Floats) -> Floats:
    logarithm = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    return np.where(values > 0, _normal_cdf(logarithm), 0.0)


DISTRIBUTIONS: Mapping[str, Distribution] = {
    "normal": _Independent(lambda rng, shape: rng.normal(size=shape), _log_normal_density, _normal_cdf),
    "uniform": _Independent(
        lambda rng, shape: rng.uniform(-2, 2, shape), _uniform_log_density, lambda x: np.clip((x + 2) / 4, 0, 1)
    ),
    "student": _Independent(lambda rng, shape: rng.standard_t(3, shape), _student_log_density, _student_cdf),
    "lognormal": _Independent(lambda rng, shape: rng.lognormal(size=shape), _skewed_log_density, _skewed_cdf),
    "mixture": _Mixture(),
    "correlated": _Correlated(),
    "rings": _Rings(),
}


def distribution(name: str) -> Distribution:
    """The distribution called `name`; raises `ConfigError` with the known names for another."""
    if name not in DISTRIBUTIONS:
        raise ConfigError(f"distribution {name!r} is not known; give one of {', '.join(DISTRIBUTIONS)}")
    return DISTRIBUTIONS[name]
