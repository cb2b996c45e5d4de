"""A batch on its way through the worker.

One that is at least half full shows that there is more: it is decoded while an earlier one is being committed, and scored
while others are received and judged. Any other is judged at once, after those that wait.
"""

from collections.abc import Sequence
from contextlib import suppress

from stream_detector.detector import Begun
from stream_detector.kafka.assignment import Held
from stream_detector.kafka.judge import Judge
from stream_detector.records import Message

__all__ = ["Batch"]


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
