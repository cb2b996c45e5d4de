"""A batch on its way through the worker.

One that is at least half full shows that there is more: it is decoded while an earlier one is being committed, and scored
while others are received and judged. Any other is judged at once, after those that wait.
"""

import time
from collections.abc import Sequence
from contextlib import suppress

from stream_detector.detector import Begun
from stream_detector.records import Message
from stream_detector.worker.judge import Judge
from stream_detector.worker.partitions.assignment import Held

__all__ = ["Batch", "Pace"]


class Batch:
    """Messages that were received but not taken yet; `full` if they are at least half of what the judge takes at once.

    All of it, when records are large, is more than the client keeps ready.
    """

    def __init__(self, held: Held, judge: Judge) -> None:
        self.held = held
        self.full = 2 * len(held.messages) >= judge.limit
        self._judge = judge
        self._begun: Begun | None = None

    def begin(self) -> None:
        """Decodes it and has it scored; one that fails here fails again where it is judged, and is dealt with there."""
        with suppress(Exception):
            self._begun = self._judge.begin(self.held.messages)

    def begun_by(self, judge: Judge, taken: Sequence[Message]) -> Begun | None:
        """What was begun, if it was by this judge and all its messages were taken."""
        return self._begun if judge is self._judge and len(taken) == len(self.held.messages) else None


class Pace:
    """How long batches take: they must be well within the transaction's time, `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._slow = False
        self._full_at: float | None = None

    def judged(self, judge: Judge, seconds: float, records: int) -> None:
        """A batch took so long; one slow batch may be a frozen process, two in a row are not."""
        slow = seconds > self._timeout / 2
        if slow and self._slow:
            judge.lower_limit(records)
        self._slow = slow

    def turned(self, judge: Judge, *, full: bool) -> None:
        """A batch came in; the judge is told how long it took from one full batch to the next."""
        now = time.monotonic() if full else None
        if now is not None and self._full_at is not None:
            judge.heed_turn(now - self._full_at)
        self._full_at = now
