"""The event clock of a partition: it goes by the times of its records, and stands still while none come."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stream_detector.context.spec import NO_TIME
from stream_detector.records.control_events import Progress

__all__ = ["EventClock", "Readings"]

MILLISECOND = 1_000_000  # nanoseconds
TICK = 60_000  # milliseconds

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Readings:
    """The clock at records: `clock` and `newest`, the latest time so far, int64 [record] in milliseconds since 1970,
    `NO_TIME` before the first record with a time. `ticks` int64 are positions of records: the first with a time, and
    those that take the clock over a multiple of 60 s.
    """

    clock: Times
    newest: Times
    ticks: Times


class EventClock:
    """The sum of the steps of the running maximum of a partition's times, none of which counts more than `longest`.

    So a gap in which nothing came, whether of the partition or of the worker, makes nobody silent who may be quiet for
    `longest`, in milliseconds. The clock starts at the first time; how records are cut into batches does not matter.
    """

    def __init__(self, longest: int, clock: int | None = None, newest: int | None = None) -> None:
        self._longest = longest
        self._clock, self._newest = clock, newest

    @classmethod
    def after(cls, progress: Progress, longest: int) -> Self:
        """The clock as it was behind the record of the progress."""
        return cls(longest, progress.clock, progress.newest)

    def advance(self, times: Times) -> Readings:
        """Reads the clock at records by their times [record] in nanoseconds; one without a time moves nothing."""
        moments = np.where(times == NO_TIME, NO_TIME, times // MILLISECOND)
        if self._clock is None or self._newest is None:
            return self._begun(moments)
        newest = np.maximum.accumulate(np.concatenate(([self._newest], moments)))
        clock = self._clock + np.cumsum(np.minimum(np.diff(newest), self._longest))
        ticks = np.flatnonzero(np.diff(np.concatenate(([self._clock], clock)) // TICK))
        if len(clock):
            self._clock, self._newest = int(clock[-1]), int(newest[-1])
        return Readings(clock, newest[1:], ticks)

    def _begun(self, moments: Times) -> Readings:
        timed = np.flatnonzero(moments != NO_TIME)
        before = np.full(int(timed[0]) if len(timed) else len(moments), NO_TIME)
        if not len(timed):
            return Readings(before, before, timed)
        first = len(before)
        self._clock = self._newest = int(moments[first])
        rest = self.advance(moments[first:] * MILLISECOND)
        return Readings(
            np.concatenate((before, rest.clock)),
            np.concatenate((before, rest.newest)),
            np.concatenate(([first], rest.ticks + first)),
        )
