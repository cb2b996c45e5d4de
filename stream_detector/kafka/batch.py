"""A batch on its way through the worker.

A full one shows that there is more: it is decoded and scored in other threads, while this one sends and
commits the batch before it. Any other is judged at once.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from stream_detector.detector import Begun
from stream_detector.kafka.assignment import Held
from stream_detector.kafka.judge import Judge
from stream_detector.records import Message

__all__ = ["Batch"]

THREAD = ThreadPoolExecutor(1, "decoding")


class Batch:
    """Messages that were received but not taken yet; `full` if there were as many as the judge takes at once."""

    def __init__(self, held: Held, judge: Judge) -> None:
        self.held = held
        self.full = len(held.messages) == judge.limit
        self._judge = judge
        self._begun: Future[Begun] | None = THREAD.submit(judge.begin, held.messages) if self.full else None

    def begun_by(self, judge: Judge, taken: Sequence[Message]) -> Callable[[], Begun] | None:
        """What waits for all that is begun, if it was by this judge and all its messages were taken."""
        if self._begun is None or judge is not self._judge or len(taken) < len(self.held.messages):
            return None
        return self._begun.result

    def settle(self) -> None:
        """Waits for the decoding; what it raised comes out where the batch is judged."""
        if self._begun:
            wait((self._begun,))
