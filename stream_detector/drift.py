"""Drift of a partition's stream under one model: river's ADWIN and KSWIN, and alerts that are alike.

Everything is counted in offsets, so what is noticed does not depend on batches. ADWIN sees the mean of
every 32 offsets; KSWIN sees one record in 16 and is asked every 2,048 offsets, since its test takes
half a millisecond. Scores are cut off at 3 nines: a few wild records are anomalies, not drift.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import fsum

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, KSWIN

from stream_detector.config import DriftConfig
from stream_detector.records import Alert

__all__ = ["Monitor", "Notice"]

BLOCK = 32  # offsets that ADWIN sees as one mean
CHECK = 8  # blocks between two checks of ADWIN
STRIDE = 16  # offsets of which KSWIN sees one record
TEST = 2_048  # offsets between two tests of KSWIN
SAMPLES, LATEST = 300, 100  # that KSWIN compares: so many of all against so many of the latest
CAP = 3.0  # nines
SPAN = 1_000  # offsets over which alerts are counted that are alike
DOMINANT = 0.25  # contribution to an alert from which a feature counts


@dataclass(frozen=True, slots=True)
class Notice:
    """What was noticed at which offset: by `adwin` or `kswin` on `score` or `residual`, or by `pattern`.

    `features` name what the alerts of a regime change have in common, such as `cpu high`.
    """

    offset: int
    detector: str
    stream: str
    features: tuple[str, ...] = ()


class Monitor:
    """Watches one partition; begins anew with another model."""

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._streams = {stream: Stream(config) for stream in ("score", "residual")}
        self._alike = Alike(config.regime_share)
        self._quiet_until: dict[bool, int] = {}

    def update(
        self,
        offsets: NDArray[np.int64],
        scores: NDArray[np.float32],
        residuals: NDArray[np.float32],
        alerts: Iterable[Alert],
    ) -> list[Notice]:
        """What is new in records [record], in offset order, with their scores and residuals in nines."""
        found = [
            Notice(offset, detector, stream)
            for stream, values in (("score", scores), ("residual", residuals))
            for offset, detector in self._streams[stream].update(offsets, values)
        ]
        found += [Notice(at, "pattern", "residual", features) for at, features in self._alike.update(alerts)]
        return [notice for notice in sorted(found, key=lambda notice: notice.offset) if self._is_news(notice)]

    def _is_news(self, notice: Notice) -> bool:
        """Whether the cool-down since the last one of its kind is over, which begins again if so."""
        regime = notice.detector == "pattern"
        if notice.offset < self._quiet_until.get(regime, 0):
            return False
        self._quiet_until[regime] = notice.offset + self._config.cooldown
        return True


class Stream:
    """One stream of values: river's detectors on a grid of offsets."""

    def __init__(self, config: DriftConfig) -> None:
        self._adwin = ADWIN(delta=config.delta, clock=CHECK)  # type: ignore[no-untyped-call]
        self._alpha = config.alpha
        self._block: list[float] = []
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._last = -1

    def update(self, offsets: NDArray[np.int64], values: NDArray[np.float32]) -> Iterator[tuple[int, str]]:
        """(offset, detector) of each drift."""
        capped = np.minimum(values.astype(np.float64), CAP)
        before = np.concatenate(([self._last], offsets[:-1]))
        for first, end in _runs(before // BLOCK != offsets // BLOCK):
            if before[first] // BLOCK != offsets[first] // BLOCK and self._closes_with_drift():
                yield int(before[first]), "adwin"
            self._block += capped[first:end].tolist()
        for row in np.flatnonzero(before // STRIDE != offsets // STRIDE).tolist():
            if before[row] // TEST != offsets[row] // TEST and self._differs():
                yield int(offsets[row]), "kswin"
            self._samples.append(float(capped[row]))
        self._last = int(offsets[-1])

    def _closes_with_drift(self) -> bool:
        block, self._block = self._block, []
        if not block:
            return False
        mean = fsum(block) / len(block)  # exact, however the block was cut into batches
        self._adwin.update(mean)  # type: ignore[no-untyped-call]
        return bool(self._adwin.drift_detected)

    def _differs(self) -> bool:
        """One test of KSWIN; after drift only the latest samples remain."""
        if len(self._samples) < SAMPLES:
            return False
        *earlier, latest = self._samples
        kswin = KSWIN(self._alpha, SAMPLES, LATEST, seed=0, window=earlier)
        kswin.update(latest)  # type: ignore[no-untyped-call]
        if kswin.drift_detected:
            self._samples = deque(list(self._samples)[-LATEST:], maxlen=SAMPLES)
        return bool(kswin.drift_detected)


class Alike:
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


def _runs(begins: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and end of each run of rows; a run begins at row 0 and wherever `begins`."""
    starts = np.flatnonzero(begins).tolist()
    yield from pairwise(dict.fromkeys((0, *starts, len(begins))))
