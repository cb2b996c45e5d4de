"""What many records of a partition lack or bring that those fitted on did not: no feature, a new category, no use.

Counted over the last 1,000 records, or for dead letters offsets, so what is noticed does not depend on batches.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from stream_detector.config import DriftConfig
from stream_detector.drift import SPAN, Notice
from stream_detector.scoring.frequency import Frequency

__all__ = ["Deviations"]

Positions = NDArray[np.int64]


class Deviations:
    """Watches one partition; begins anew with another model.

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
        """What is new in records [record] at these offsets: by feature those that lack it, or have a new category."""
        found: list[tuple[int, str, str]] = []
        for detector, marked, word in (("missing", missing, "missing"), ("unseen", unseen, "new")):
            for name, rows in marked.items():
                usual = self._usual.get(name, 0.0) if detector == "missing" else 0.0
                key, at = (detector, f"{name} {word}"), (rows + self._records, offsets[rows])
                found += [(offset, *key) for offset in self._often(key, *at, usual)]
        self._records += len(offsets)
        return _told(found, "features")

    def bury(self, letters: Mapping[str, Positions]) -> list[Notice]:
        """What is new in dead letters: their offsets by reason."""
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


def _told(found: list[tuple[int, str, str]], stream: str) -> list[Notice]:
    """One notice for all that is noticed alike at one offset."""
    together: dict[tuple[int, str], list[str]] = {}
    for offset, detector, what in found:
        together.setdefault((offset, detector), []).append(what)
    return [
        Notice(offset, detector, stream, tuple(sorted(what))) for (offset, detector), what in sorted(together.items())
    ]
