"""Calibration turns raw scores into nines: -log10 of the share of normal records that score as high.

Empirical quantiles of held-out normal records where there are enough of them, and a fitted tail
beyond. The raw scores are logarithms: their tail is an exponential above the 0.9 quantile, so that
scores of different kinds can be added. What the opinions and their combination then mean is
calibrated again, with a generalised-Pareto tail (Pickands 1975), fitted by probability-weighted
moments (Hosking and Wallis 1987). Its shape is kept above 0. No tail so has an end, and of two
anomalies, both far beyond anything seen, the farther one still scores higher.

A number of records says at most log10(records + 1) nines; the tail is an extrapolation. Of few records
a larger share is taken into it. All records then tell how wide a raw score spreads, as those in its tail
are too few, and so does the usual spread of a distance's logarithm in so many dimensions. The last tail is
the distribution that the next record is expected to have, as the scale of an exponential tail is only
estimated from so few, and from what other data have shown. What is known beforehand counts less the more
records there are, and nothing from 200 on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_detector.errors import DataError
from stream_detector.scoring.compiled.arithmetic import compiled
from stream_detector.scoring.opinions import Panel, RawScores

__all__ = ["KNOTS", "Calibration", "TailTable", "significant", "six_digits"]

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Arrays = tuple[Floats, Floats, Floats, Floats]
LOG_10 = math.log(10)
KNOTS = 129  # quantiles kept of a score's body: a power of two of intervals
SHAPES = (0.05, 0.1)  # of a tail: sums of surprises fall off nearly as an exponential does; above 0, it has no end
STEEPEST = 0.05  # smallest scale of an exponential tail, relative to the scores' deviation
TAIL = 20  # records that a tail is fitted to; fewer only where there are not so many
WIDEST = 0.2  # most of all records that a tail is fitted to
FEW = 205  # records; of fewer, less than `TAIL` lie beyond where a tail begins, and the tail is as wide as all deviate
ENOUGH = 200  # records from which on nothing but they tells how wide scores spread; below, the less the more there are
ALIKE = 110  # records that the usual deviation of a raw score counts as, beside none
USUAL = {"inversion": 0.85, "nearness": 0.42, "distance": 0.64}  # deviations, by that of a squared distance's logarithm
USUAL_VERDICT = 4.25  # deviation of the verdict, in logits
KNOWN = (6, 33)  # records that the knowledge about a tail of surprises counts as, beside enough records and beside none
# Of that of surprises that always agree, beside enough records and beside none; nines.
KNOWN_SCALE = (0.5 / LOG_10, 0.72 / LOG_10)
NARROWEST = 1e-3  # smallest scale of a tail, relative to the score's size: tied scores have none

MOST_DIGITS = 280
POWERS = np.array([10.0**power for power in range(-MOST_DIGITS, MOST_DIGITS + 6)])
LOG10_OF_2 = math.log10(2)


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
    def fit(cls, scores: Floats, usual: Floats | None = None) -> "TailTable":
        """Learns from scores [record, score] of held-out normal records, higher = more anomalous.

        The tail is a generalised-Pareto one as far out as can be. With `usual`, the scores' usual deviations
        [score] (NaN = not known), it is an exponential one from the 0.9 quantile.
        """
        deviations = [None] * scores.shape[1] if usual is None else usual.tolist()
        fitted = [_fit_one(np.sort(column), deviation) for column, deviation in zip(scores.T, deviations, strict=True)]
        raw, nines, scale, shape = (np.array(parts, dtype=np.float64) for parts in zip(*fitted, strict=True))
        return cls(raw, nines, scale, shape)

    def __call__(self, scores: Floats) -> Floats:
        """Nines [record, score] of raw scores [record, score]; above 0, rising with the raw score."""
        found = np.zeros(scores.shape[::-1])
        for column, scored in enumerate(np.ascontiguousarray(scores.T)):
            _add_nines(scored, self.arrays, column, 1.0, found[column])
        return found.T

    @property
    def arrays(self) -> Arrays:
        """The table's arrays, for compiled code."""
        return self.raw, self.nines, self.scale, self.shape

    def take(self, rows: slice) -> "TailTable":
        """The table of some of the scores."""
        return TailTable(self.raw[rows], self.nines[rows], self.scale[rows], self.shape[rows])


@dataclass(frozen=True, slots=True)
class Calibration:
    """Tells what a model's raw scores mean, as was learnt from held-out normal records.

    `parts` has a row for every raw score of every view, in the order of `RawScores.table`; `opinions` one for each
    opinion that is told; `anomaly` one for the combined score.
    """

    parts: TailTable
    opinions: TailTable
    anomaly: TailTable

    @classmethod
    def fit(cls, raw: RawScores, panel: Panel, dimensions: float) -> "Calibration":
        """Learns from raw scores of held-out normal records, and from what the panel makes of them.

        In how many dimensions (1 or more) the records lie tells how widely raw scores usually spread; that counts
        where there are fewer than 200 records.
        """
        parts = TailTable.fit(raw.table, np.tile(_usual_deviations(raw.names, dimensions), raw.views))
        surprise = _surprise(np.ascontiguousarray(raw.table.T), parts.arrays, panel.shares(raw.views))
        combined = _combined(surprise, panel.weighing)
        return cls(parts, TailTable.fit(surprise[panel.told_places].T), TailTable.fit(combined[:, None]))

    def __call__(self, raw: RawScores, panel: Panel) -> Floats:
        """The opinions that are told and the anomaly score [score, record] in nines, higher = more anomalous."""
        surprise = _surprise(np.ascontiguousarray(raw.table.T), self.parts.arrays, panel.shares(raw.views))
        tables = self.opinions.arrays, self.anomaly.arrays
        told: Floats = _told(surprise, panel.weighing, panel.told_places, *tables)
        return told

    @staticmethod
    def quantile(tail_probability: float) -> float:
        """The anomaly score that a normal record exceeds with this probability, in nines.

        Raises `DataError` unless the probability is above 0 and below 1.
        """
        if not 0 < tail_probability < 1:
            raise DataError(f"the rate is {tail_probability}; give one above 0 and below 1, such as 0.001")
        return float(significant(np.array([-np.log10(tail_probability)]))[0])


@compiled
def _add_nines(scores: Floats, table: Arrays, column: int, weight: float, into: Floats) -> None:
    """Adds, `weight` times, the nines of scores [record]: the body is interpolated between knots, the tail computed."""
    raw, nines, scale, shape = table[0][column], table[1][column], table[2][column], table[3][column]
    last = len(raw) - 1
    left = _knots_below(scores, raw)
    for row in range(len(scores)):
        score, at = scores[row], left[row]
        if score >= raw[last]:
            excess = (score - raw[last]) / scale
            beyond = math.log1p(shape * excess) / shape if shape > 0 else excess
            found = nines[last] + beyond / LOG_10
        elif score <= raw[0]:
            found = nines[0] / (1 + (raw[0] - score) / scale)
        else:
            share = (score - raw[at]) / (raw[at + 1] - raw[at])
            found = nines[at] + share * (nines[at + 1] - nines[at])
        into[row] += weight * found


@compiled
def _knots_below(scores: Floats, raw: Floats) -> NDArray[np.int64]:
    """The last knot that is no higher than each score [record], or the first one.

    All scores take each step of the bisection together: none waits for its own last step.
    """
    left, step = np.zeros(len(scores), np.int64), len(raw) // 2
    while step:
        for row in range(len(scores)):
            left[row] += step * (raw[left[row] + step] <= scores[row])
        step >>= 1
    return left


def significant(values: Floats) -> NDArray[np.float32]:
    """Values [value] rounded to 6 significant digits, float32: what is compared, stored and shown."""
    return six_digits(values).astype(np.float32)


@compiled
def six_digits(values: Floats) -> Floats:
    """The doubles that are nearest to 6 significant digits of values [value]."""
    rounded = np.empty(len(values))
    for place in range(len(values)):
        value = values[place]
        binary = math.frexp(abs(value))[1] - 1  # tells the decimal exponent, or the one below it
        power = min(max(math.floor(binary * LOG10_OF_2), -MOST_DIGITS), MOST_DIGITS)
        power += 1 if abs(value) >= POWERS[MOST_DIGITS + power + 1] else 0
        factor = POWERS[MOST_DIGITS + abs(5 - power)]
        # Powers of 10 below 1 are not exact, so a large value is divided, not multiplied by one.
        rounded[place] = np.rint(value * factor) / factor if power <= 5 else np.rint(value / factor) * factor
    return rounded


@compiled
def _surprise(raw: Floats, parts: Arrays, shares: Floats) -> Floats:
    """Nines of the opinions [opinion, record]: means of their raw scores' by `shares` [opinion, view * part]."""
    found = np.zeros((len(shares), raw.shape[1]))
    for row in range(len(raw)):
        for opinion in range(len(shares)):
            if shares[opinion, row] > 0:
                _add_nines(raw[row], parts, row, shares[opinion, row], found[opinion])
    return found


@compiled
def _told(surprise: Floats, weights: Floats, places: Places, opinions: Arrays, anomaly: Arrays) -> Floats:
    """The opinions at `places` and their combination [score, record], in nines, from surprises [opinion, record]."""
    found = np.zeros((len(places) + 1, surprise.shape[1]))
    for row in range(len(places)):
        _add_nines(surprise[places[row]], opinions, row, 1.0, found[row])
    _add_nines(_combined(surprise, weights), anomaly, 0, 1.0, found[len(places)])
    return found


@compiled
def _combined(surprise: Floats, weights: Floats) -> Floats:
    """Weighted mean of the surprises [record]."""
    found, whole = np.zeros(surprise.shape[1]), 0.0
    for opinion in range(len(weights)):
        whole += weights[opinion]
        for row in range(len(found)):
            found[row] += surprise[opinion, row] * weights[opinion]
    for row in range(len(found)):
        found[row] /= whole
    return found


def _usual_deviations(names: Sequence[str], dimensions: float) -> Floats:
    """How widely raw scores [part] of normal records usually spread; NaN for one that is not the networks'.

    The logarithm of a squared normal distance in d dimensions has the variance 2 (d + 1) / d^2, nearly.
    """
    logarithm = math.sqrt(2 * (dimensions + 1)) / dimensions
    usual = {name: share * logarithm for name, share in USUAL.items()} | {"verdict": USUAL_VERDICT}
    return np.array([usual.get(name, math.nan) for name in names])


def _fit_one(ordered: Floats, usual: float | None) -> tuple[Floats, Floats, float, float]:
    """Knots and tail of one score, from its ascending values; the tail is exponential unless `usual` is None."""
    count = len(ordered)
    cut = min(count - 1, max(0, round(count * (1 - _tail_share(count, exponential=usual is not None)))))
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
    if usual is not None:
        scale, shape = _exponential_scale(ordered, excesses, usual), 0.0
    else:
        scale, shape = _fit_tail(excesses, _unknown(count))
    scale = max(scale, NARROWEST * max(1.0, float(np.std(ordered))), 1e-9)
    padding = KNOTS - len(raw)
    return np.pad(raw, (0, padding), mode="edge"), np.pad(nines, (0, padding), mode="edge"), scale, shape


def _tail_share(count: int, *, exponential: bool) -> float:
    """The share of so many records that a tail is fitted to."""
    share = 0.1
    if not exponential and count >= 1000:
        share = 0.02 if count >= 5000 else 0.05
    return max(share, min(TAIL / count, WIDEST))


def _unknown(count: int) -> float:
    """How much what is known beforehand counts beside so many records: 1 beside none, 0 beside enough."""
    return max(0.0, 1 - count / ENOUGH) ** 2


def _fit_tail(excesses: Floats, unknown: float) -> tuple[float, float]:
    """Scale and shape of a generalised Pareto distribution, by probability-weighted moments; of few by `_predicted`."""
    count = len(excesses)
    if count < TAIL:
        return _predicted(excesses, unknown)
    mean = float(excesses.mean())
    above = np.arange(count - 1, -1, -1) / (count - 1)
    weighted = float((above * np.sort(excesses)).mean())
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else SHAPES[1]
    shape = min(max(shape, SHAPES[0]), SHAPES[1])
    return mean * (1 - shape), shape


def _exponential_scale(ordered: Floats, excesses: Floats, usual: float) -> float:
    """Scale of an exponential tail: the mean of its excesses [record]; of few records, the likely deviation of all."""
    count, deviation = len(ordered), float(np.std(ordered))
    if count >= FEW and len(excesses):
        return max(float(excesses.mean()), STEEPEST * deviation)
    alike = 0.0 if math.isnan(usual) else ALIKE * _unknown(count)
    return math.sqrt((count * deviation**2 + alike * usual**2) / (count + alike)) if alike else deviation


def _predicted(excesses: Floats, unknown: float) -> tuple[float, float]:
    """Scale and shape of the next excess, when few exponential ones [record] were seen: a Lomax distribution.

    It is the predictive distribution under a gamma prior of the rate, which counts as `KNOWN` excesses of `KNOWN_SCALE`.
    """
    known, known_scale = (enough + (none - enough) * unknown for enough, none in (KNOWN, KNOWN_SCALE))
    count = len(excesses) + known
    return (float(excesses.sum()) + known * known_scale) / count, 1 / count
