"""Drift of a partition's stream under one model: river's ADWIN and KSWIN, alerts that are alike, missing features.

`Deviations` counts what many records lack or bring that those fitted on did not, over the last 1,000 records, or for
dead letters offsets. Everything is counted in offsets, so what is noticed does not depend on batches. ADWIN sees the mean of
every 32 offsets; KSWIN sees one record in 16 and is asked every 2,048 offsets. Scores are cut off at 3
nines: a few wild records are anomalies, not drift.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, KSWIN

from stream_detector.config import DriftConfig
from stream_detector.records import Alert
from stream_detector.scoring.threshold import Frequency

__all__ = ["SPAN", "Deviations", "Monitor", "Notice"]

BLOCK = 32  # offsets that ADWIN sees as one mean
CHECK = 8  # blocks between two checks of ADWIN
STRIDE = 16  # offsets of which KSWIN sees one record
TEST = 2_048  # offsets between two tests of KSWIN
SAMPLES, LATEST = 300, 100  # that KSWIN compares: so many of all against so many of the latest
DRAWN = Random(0).sample(range(SAMPLES - LATEST), LATEST)  # noqa: S311 - which of the earlier ones KSWIN takes of seed 0
CAP = 3.0  # nines
UNIT = 2**32  # fractions of a nine that values are counted in
SPAN = 1_000  # offsets over which alerts are counted that are alike
DOMINANT = 0.25  # contribution to an alert from which a feature counts

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Notice:
    """Drift that was noticed: the offset, the detector and the stream, as `ControlEvent` names them.

    `features` name what the records have in common, such as `cpu high`.
    """

    offset: int
    detector: str
    stream: str
    features: tuple[str, ...] = ()


class Monitor:
    """Watches the scores and alerts of one partition; begins anew with another model."""

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._streams = {stream: ValueStream(config) for stream in ("score", "residual")}
        self._alike = AlikeAlerts(config.regime_share)
        self._quiet_until: dict[bool, int] = {}
        self._last = -1

    def update(
        self,
        offsets: Positions,
        scores: NDArray[np.float32],
        residuals: NDArray[np.float32],
        alerts: Iterable[Alert],
    ) -> list[Notice]:
        """Takes records [record], in offset order, with their scores and residuals in nines; returns what is new."""
        grid = _grid(self._last, offsets)
        self._last = int(offsets[-1])
        found = [
            Notice(offset, detector, stream)
            for stream, values in (("score", scores), ("residual", residuals))
            for offset, detector in self._streams[stream].update(grid, values)
        ]
        found += [Notice(at, "pattern", "residual", features) for at, features in self._alike.update(alerts)]
        return [notice for notice in sorted(found, key=lambda notice: notice.offset) if self._is_news(notice)]

    def _is_news(self, notice: Notice) -> bool:
        """Tells whether the cool-down since the last one of its kind is over, which begins again if so."""
        regime = notice.detector == "pattern"
        if notice.offset < self._quiet_until.get(regime, 0):
            return False
        self._quiet_until[regime] = notice.offset + self._config.cooldown
        return True


class Deviations:
    """Watches what the records of one partition lack or bring, and its dead letters; begins anew with another model.

    `usual` is the share of the records fitted on that lack a feature, by its name; what exceeds it by
    `drift.regime_share` is noticed.
    """

    def __init__(self, config: DriftConfig, usual: Mapping[str, float]) -> None:
        self._config = config
        self._usual = usual
        self._records = 0
        self._counts: dict[tuple[str, str], Frequency] = {}
        self._quiet_until: dict[tuple[str, str], int] = {}

    def take(
        self, offsets: Positions, missing: Mapping[str, Positions], unseen: Mapping[str, Positions]
    ) -> list[Notice]:
        """Takes records [record] at these offsets, by feature those that lack it or have a new category; returns what is new."""
        found: list[tuple[int, str, str]] = []
        for detector, marked, word in (("missing", missing, "missing"), ("unseen", unseen, "new")):
            for name, rows in marked.items():
                usual = self._usual.get(name, 0.0) if detector == "missing" else 0.0
                key, at = (detector, f"{name} {word}"), (rows + self._records, offsets[rows])
                found += [(offset, *key) for offset in self._often(key, *at, usual)]
        self._records += len(offsets)
        return _told(found, "features")

    def bury(self, letters: Mapping[str, Positions]) -> list[Notice]:
        """Takes the offsets of dead letters by reason; returns what is new."""
        found = [
            (offset, "dead-letters", reason)
            for reason, offsets in letters.items()
            for offset in self._often(("dead-letters", reason), offsets, offsets, 0.0)
        ]
        return _told(found, "records")

    def _often(self, key: tuple[str, str], positions: Positions, offsets: Positions, usual: float) -> Iterator[int]:
        """Offsets at which these are many, with the cool-down between."""
        least = max(2, round((usual + self._config.regime_share) * SPAN))
        if least > SPAN:
            return
        frequency = self._counts.setdefault(key, Frequency(SPAN, least - 1))  # the mark itself is one
        often = offsets[frequency.add(positions)]
        while (at := int(np.searchsorted(often, self._quiet_until.get(key, 0)))) < len(often):
            offset = int(often[at])
            self._quiet_until[key] = offset + max(1, self._config.cooldown)
            yield offset


class OffsetGrid(NamedTuple):
    """Rows of a batch that are the first of a block of offsets, and the offset before each; rows that KSWIN sees;
    and those of the latter, by their number, that a test precedes, with their offsets.
    """

    blocks: Positions
    before: list[int]
    sampled: Positions
    tests: list[tuple[int, int]]


class ValueStream:
    """One stream of values: river's detectors on a grid of offsets."""

    def __init__(self, config: DriftConfig) -> None:
        self._adwin = ADWIN(delta=config.delta, clock=CHECK)  # type: ignore[no-untyped-call]
        self._least = _least_difference(config.alpha)
        self._total = self._count = 0
        self._samples: deque[float] = deque(maxlen=SAMPLES)

    def update(self, grid: OffsetGrid, values: NDArray[np.float32]) -> Iterator[tuple[int, str]]:
        """(offset, detector) of each drift."""
        capped = np.minimum(values.astype(np.float64), CAP)
        sums = np.concatenate(([0], np.cumsum(np.rint(capped * UNIT).astype(np.int64))))  # exact, however it is cut
        ends = np.concatenate((grid.blocks, [len(values)]))
        counts, totals = np.diff(ends, prepend=0).tolist(), np.diff(sums[ends], prepend=0).tolist()
        for count, total, before in zip(counts, totals, grid.before, strict=False):
            if self._closes_with_drift(count, total):
                yield before, "adwin"
        self._count, self._total = self._count + counts[-1], self._total + totals[-1]
        samples, at = capped[grid.sampled].tolist(), 0
        for first, offset in grid.tests:
            self._samples += samples[at:first]
            at = first
            if self._differs():
                yield offset, "kswin"
        self._samples += samples[at:]

    def _closes_with_drift(self, count: int, total: int) -> bool:
        """Tells whether ADWIN finds drift in a block that so many more values, with this sum, complete."""
        count, total = self._count + count, self._total + total
        self._count = self._total = 0
        if not count:
            return False
        self._adwin.update(total / (count * UNIT))  # type: ignore[no-untyped-call]
        return bool(self._adwin.drift_detected)

    def _differs(self) -> bool:
        """Tells whether KSWIN would find drift; after drift only the latest samples remain."""
        if len(self._samples) < SAMPLES:
            return False
        differs = _difference(np.array(self._samples)) >= self._least
        if differs:
            self._samples = deque(list(self._samples)[-LATEST:], maxlen=SAMPLES)
        return differs


class AlikeAlerts:
    """Counts, over the last offsets, alerts that the same features dominate."""

    def __init__(self, share: float) -> None:
        self._least = max(2, round(share * SPAN))
        self._recent: deque[tuple[int, Sequence[str]]] = deque()
        self._counts: Counter[str] = Counter()

    def update(self, alerts: Iterable[Alert]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """(offset, features in common) whenever there are many; then counting begins anew."""
        for alert in alerts:
            dominant = [f"{c.feature} {c.direction}" for c in alert.contributions if c.contribution >= DOMINANT]
            self._recent.append((alert.offset, dominant))
            self._counts.update(dominant)
            while self._recent[0][0] <= alert.offset - SPAN:
                self._counts.subtract(self._recent.popleft()[1])
            if any(self._counts[each] >= self._least for each in dominant):
                yield alert.offset, tuple(sorted(e for e, count in self._counts.items() if 2 * count >= self._least))
                self._recent.clear()
                self._counts.clear()


def _grid(last: int, offsets: Positions) -> OffsetGrid:
    """The grid of a batch that follows the offset `last`."""
    before = np.concatenate(([last], offsets[:-1]))
    blocks = np.flatnonzero(before // BLOCK != offsets // BLOCK)
    sampled = np.flatnonzero(before // STRIDE != offsets // STRIDE)
    tests = np.flatnonzero(before[sampled] // TEST != offsets[sampled] // TEST)
    return OffsetGrid(blocks, before[blocks].tolist(), sampled, _pairs(tests, offsets[sampled[tests]]))


def _pairs(some: Positions, others: Positions) -> list[tuple[int, int]]:
    return list(zip(some.tolist(), others.tolist(), strict=True))


def _difference(samples: NDArray[np.float64]) -> int:
    """Kolmogorov and Smirnov's statistic of the windows that KSWIN draws from samples [SAMPLES], times their length."""
    earlier, latest = np.sort(samples[DRAWN]), np.sort(samples[-LATEST:])
    both = np.concatenate((earlier, latest))
    ranks = (np.searchsorted(each, both, side="right") for each in (earlier, latest))
    return int(np.abs(np.subtract(*ranks)).max())


@cache
def _least_difference(alpha: float) -> int:
    """The least difference that KSWIN takes for drift, found by asking it.

    Its test takes half a millisecond, and between windows of one length depends on nothing else.
    """
    for difference in range(1, LATEST + 1):
        window = [0.0] * (SAMPLES - difference) + [1.0] * (difference - 1)
        kswin = KSWIN(alpha, SAMPLES, LATEST, seed=0, window=window)
        kswin.update(1.0)  # type: ignore[no-untyped-call]
        if kswin.drift_detected:
            return difference
    return LATEST + 1


def _told(found: list[tuple[int, str, str]], stream: str) -> list[Notice]:
    """Puts into one notice what is noticed alike at one offset."""
    together: dict[tuple[int, str], list[str]] = {}
    for offset, detector, what in found:
        together.setdefault((offset, detector), []).append(what)
    return [
        Notice(offset, detector, stream, tuple(sorted(what))) for (offset, detector), what in sorted(together.items())
    ]
