"""From raw scores to nines: -log10 of the share of normal records that score as high.

Empirical quantiles of held-out normal records where there are enough of them, and a fitted tail
beyond. The raw scores are logarithms: their tail is an exponential above the 0.9 quantile, so that
scores of different kinds can be added. What the opinions and their combination then mean is
calibrated again, with a generalised-Pareto tail (Pickands 1975), fitted by probability-weighted
moments (Hosking and Wallis 1987). Its shape is kept above 0. No tail so has an end, and of two
anomalies, both far beyond anything seen, the farther one still scores higher.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["KNOTS", "Calibration", "TailTable", "Weights", "significant"]

Floats = NDArray[np.float64]
Weights = tuple[float, float, float]
"""Of the inversion, the discriminator and the nearness in the anomaly score."""
LOG_10 = math.log(10)
KNOTS = 129  # quantiles kept of a score's body: a power of two of intervals
SHAPES = (0.05, 0.1)  # of a tail: sums of surprises fall off nearly as an exponential does; above 0, it has no end
STEEPEST = 0.05  # smallest scale of an exponential tail, relative to the scores' deviation
VERDICT = 0.3  # weight of the discriminator's verdict beside the distance in its features
NARROWEST = 1e-3  # smallest scale of a tail, relative to the score's size: tied scores have none

MOST_DIGITS = 280
POWERS = np.array([10.0**power for power in range(-MOST_DIGITS, MOST_DIGITS + 6)])
LOG10_OF_2 = math.log10(2)

compiled = njit(nogil=True, cache=True, error_model="numpy")


@dataclass(frozen=True, slots=True)
class TailTable:
    """Tail probabilities of several scores: a row each of `raw` and `nines` [score, knot], and the
    tail's `scale` and `shape` [score]; all float64.
    """

    raw: Floats
    nines: Floats
    scale: Floats
    shape: Floats

    @classmethod
    def fit(cls, scores: Floats, *, exponential: bool = False) -> "TailTable":
        """From scores [record, score] of held-out normal records, higher = more anomalous; with an
        exponential tail from the 0.9 quantile, or a generalised-Pareto one as far out as can be.
        """
        fitted = [_fit_one(np.sort(scores[:, column]), exponential=exponential) for column in range(scores.shape[1])]
        raw, nines, scale, shape = (np.array(parts, dtype=np.float64) for parts in zip(*fitted, strict=True))
        return cls(raw, nines, scale, shape)

    def __call__(self, scores: Floats) -> Floats:
        """Nines [record, score] of raw scores [record, score]; above 0, rising with the raw score."""
        nines: Floats = tail_nines(np.ascontiguousarray(scores), self.raw, self.nines, self.scale, self.shape)
        return nines

    def take(self, rows: slice) -> "TailTable":
        """The table of some of the scores."""
        return TailTable(self.raw[rows], self.nines[rows], self.scale[rows], self.shape[rows])


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a model's raw scores mean, learnt from held-out normal records.

    `parts` has a row for every raw score (for every view: inversion, nearness, distance, verdict);
    `opinions` one for the inversion and one for the discriminator; `anomaly` one for the combined score.
    """

    parts: TailTable
    opinions: TailTable
    anomaly: TailTable

    @classmethod
    def fit(cls, raw: Floats, weights: Weights) -> "Calibration":
        """From raw scores [record, view * 4] of held-out normal records."""
        parts = TailTable.fit(raw, exponential=True)
        surprise = _surprise(parts(raw))
        return cls(parts, TailTable.fit(surprise[:, :2]), TailTable.fit(_combined(surprise, weights)))

    def __call__(self, raw: Floats, weights: Weights) -> tuple[Floats, Floats, Floats]:
        """Inversion, discriminator and anomaly score [record] in nines, higher = more anomalous."""
        surprise = _surprise(self.parts(raw))
        opinions = self.opinions(surprise[:, :2])
        return opinions[:, 0], opinions[:, 1], self.anomaly(_combined(surprise, weights))[:, 0]

    def quantile(self, tail_probability: float) -> float:
        """The anomaly score that a normal record exceeds with this probability, in nines.

        Raises ValueError unless the probability is above 0 and below 1.
        """
        if not 0 < tail_probability < 1:
            raise ValueError(f"tail probability is {tail_probability}; give one above 0 and below 1")
        return float(significant(np.array([-np.log10(tail_probability)]))[0])


@compiled
def tail_nines(scores: Floats, raw: Floats, nines: Floats, scale: Floats, shape: Floats) -> Floats:
    """Nines of scores [record, score]: the body is interpolated between the knots, the tail computed."""
    found = np.empty(scores.shape)
    knots = raw.shape[1]
    for row in range(scores.shape[0]):
        for column in range(scores.shape[1]):
            score, low, high = scores[row, column], raw[column, 0], raw[column, knots - 1]
            if score >= high:
                excess = (score - high) / scale[column]
                bent = math.log1p(shape[column] * excess) / shape[column] if shape[column] > 0 else excess
                found[row, column] = nines[column, knots - 1] + bent / LOG_10
            elif score <= low:
                found[row, column] = nines[column, 0] / (1 + (low - score) / scale[column])
            else:
                left, step = 0, knots // 2
                while step:  # without a branch that the processor would have to guess
                    left += step if raw[column, left + step] <= score else 0
                    step //= 2
                share = (score - raw[column, left]) / (raw[column, left + 1] - raw[column, left])
                found[row, column] = nines[column, left] + share * (nines[column, left + 1] - nines[column, left])
    return found


@compiled
def significant(values: Floats) -> NDArray[np.float32]:
    """Values [record] rounded to 6 significant digits, float32: what is compared, stored and shown."""
    rounded = np.empty(len(values), np.float32)
    for place in range(len(values)):
        value = values[place]
        binary = math.frexp(abs(value))[1] - 1  # tells the decimal exponent, or the one below it
        power = min(max(math.floor(binary * LOG10_OF_2), -MOST_DIGITS), MOST_DIGITS)
        power += 1 if abs(value) >= POWERS[MOST_DIGITS + power + 1] else 0
        factor = POWERS[MOST_DIGITS + 5 - power]
        rounded[place] = np.rint(value * factor) / factor
    return rounded


@compiled
def _surprise(nines: Floats) -> Floats:
    """Nines of the inversion, the discriminator and the nearness [record, 3], means over the views."""
    count, views = nines.shape[0], nines.shape[1] // 4
    found = np.zeros((count, 3))
    for row in range(count):
        for view in range(views):
            distance, verdict = nines[row, 4 * view + 2], nines[row, 4 * view + 3]
            found[row, 0] += nines[row, 4 * view] / views
            found[row, 1] += (distance + VERDICT * verdict) / (1 + VERDICT) / views
            found[row, 2] += nines[row, 4 * view + 1] / views
    return found


@compiled
def _combined(surprise: Floats, weights: Weights) -> Floats:
    """Weighted mean of the surprises [record, 1]."""
    whole = weights[0] + weights[1] + weights[2]
    found = np.empty((len(surprise), 1))
    for row in range(len(surprise)):
        total = surprise[row, 0] * weights[0] + surprise[row, 1] * weights[1] + surprise[row, 2] * weights[2]
        found[row, 0] = total / whole
    return found


def _fit_one(ordered: Floats, *, exponential: bool) -> tuple[Floats, Floats, float, float]:
    """Knots and tail of one score, from its ascending values."""
    count = len(ordered)
    share = 0.1 if exponential or count >= 200 else 0.3
    if not exponential and count >= 1000:
        share = 0.02 if count >= 5000 else 0.05
    cut = min(count - 1, max(0, round(count * (1 - share))))
    # Few near the tail are spaced closer in nines than in rank, so knots are spread over both.
    grid = np.unique(
        np.round(np.concatenate((np.linspace(0, cut, KNOTS // 2), cut - np.geomspace(1, cut + 1, KNOTS // 2) + 1)))
    ).astype(np.int64)
    raw = np.unique(ordered[grid])
    raw = raw[np.diff(raw, prepend=-np.inf) > 1e-12 * max(1.0, float(np.abs(raw).max()))]
    # Tied values share the probability of reaching the lowest of them.
    reached = count - np.searchsorted(ordered, raw, side="left")
    nines = -np.log10(reached / (count + 1))
    excesses = ordered[ordered > raw[-1]] - raw[-1]
    if exponential:
        scale, shape = (float(excesses.mean()) if len(excesses) else 0.0), 0.0
        scale = max(scale, STEEPEST * float(np.std(ordered)))
    else:
        scale, shape = _fit_tail(excesses)
    scale = max(scale, NARROWEST * max(1.0, float(np.std(ordered))), 1e-9)
    padding = KNOTS - len(raw)
    return np.pad(raw, (0, padding), mode="edge"), np.pad(nines, (0, padding), mode="edge"), scale, shape


def _fit_tail(excesses: Floats) -> tuple[float, float]:
    """Scale and shape of a generalised Pareto distribution, by probability-weighted moments."""
    count = len(excesses)
    if count < 10:
        return (float(excesses.mean()) if count else 0.0), SHAPES[0]
    mean = float(excesses.mean())
    above = np.arange(count - 1, -1, -1) / (count - 1)
    weighted = float((above * np.sort(excesses)).mean())
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else SHAPES[1]
    shape = min(max(shape, SHAPES[0]), SHAPES[1])
    return mean * (1 - shape), shape
