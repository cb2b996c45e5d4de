"""Keeps the messages behind a threshold: another model has to score them before it can take over.

A threshold spans the last W scores of its partition. The messages that gave them are kept, so that
the threshold under a new model is found without reading the log again.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from threading import Lock

from stream_detector.records import Message

__all__ = ["KEPT_BYTES", "NO_PAST", "Past", "RecentMessages", "size"]

KEPT_BYTES = 256 * 2**20  # of values, over all partitions of a worker


@dataclass(frozen=True, slots=True)
class Past:
    """Messages of one partition in offset order, up to the last one judged.

    `whole`: the log held nothing before them when the partition was restored, and none was let go since.
    """

    messages: tuple[Message, ...] = ()
    whole: bool = False

    @property
    def last(self) -> int | None:
        """Offset of the last message."""
        return self.messages[-1].offset() if self.messages else None

    def after(self, offset: int | None) -> tuple[Message, ...] | None:
        """Finds the messages behind the one at `offset`; None when that one is not among them."""
        for at in range(len(self.messages), 0, -1):
            if self.messages[at - 1].offset() == offset:
                return self.messages[at:]
        return None


NO_PAST = Past()


@dataclass(frozen=True, slots=True)
class KeptBatch:
    """Holds messages, how many scores they gave, and the bytes of their values."""

    messages: Sequence[Message]
    scores: int
    bytes: int


class RecentMessages:
    """The messages that gave the last `window` scores of a partition; one thread adds, others may read.

    `seen` is how many scores the threshold has taken from `past`, with which it begins.
    """

    def __init__(self, window: int, past: Past = NO_PAST, seen: int = 0) -> None:
        self.bytes = 0
        self._window = window
        self._seen = self._scores = 0
        self._whole = past.whole
        self._batches: deque[KeptBatch] = deque()
        self._lock = Lock()
        self.add(past.messages, seen)

    def add(self, messages: Sequence[Message], seen: int) -> None:
        """Keeps messages, after which the threshold has seen `seen` scores; lets go of what the window does not need."""
        batch = KeptBatch(messages, seen - self._seen, size(messages))
        with self._lock:
            self._batches.append(batch)
            self._seen = seen
            self._scores += batch.scores
            self.bytes += batch.bytes
            while self._batches and self._scores - self._batches[0].scores >= self._window:
                self._drop_oldest()

    def shrink(self, excess: int) -> int:
        """Lets go of the oldest batches until `excess` bytes are free, or nothing is left; returns how many bytes were freed."""
        before = self.bytes
        with self._lock:
            while self._batches and before - self.bytes < excess:
                self._drop_oldest()
        return before - self.bytes

    def past(self) -> Past:
        """Returns what is kept, as it stands."""
        with self._lock:
            batches, whole = list(self._batches), self._whole
        return Past(tuple(chain.from_iterable(batch.messages for batch in batches)), whole)

    @property
    def last(self) -> int | None:
        """Offset of the last message kept."""
        batch = next((batch for batch in reversed(self._batches) if batch.messages), None)
        return batch.messages[-1].offset() if batch else None

    def _drop_oldest(self) -> None:
        batch = self._batches.popleft()
        self._scores -= batch.scores
        self.bytes -= batch.bytes
        self._whole = False


def size(messages: Sequence[Message]) -> int:
    """Counts the bytes of the messages' values."""
    return sum(map(len, filter(None, [message.value() for message in messages])))
