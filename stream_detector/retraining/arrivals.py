"""Counts the telemetry that has come since a moment, to know when there is enough to learn from."""

from typing import TYPE_CHECKING, cast

from stream_detector.config import Config
from stream_detector.kafka import recent
from stream_detector.records import TopicPartition
from stream_detector.retraining.window import Reader

if TYPE_CHECKING:
    from stream_detector.records import Message

__all__ = ["Arrivals"]


class Arrivals:
    """The records written since `since_ms` (epoch ms) and retained; for one thread.

    They are read to be counted, once: a message may hold many, and markers of transactions have offsets, too.
    """

    def __init__(self, config: Config, since_ms: int) -> None:
        self.since_ms = since_ms
        self._config = config
        self._reader = Reader(config)
        self._read: dict[TopicPartition, int] = {}
        self._count = 0

    def reach(self, count: int) -> bool:
        """Whether there are at least `count` by now. Raises `TopicMissingError` for a topic that is not there."""
        retained = recent.retained(self._config, self.since_ms)
        if not self._reader.many and sum(end - start for start, end in retained.values()) < count:
            return False
        for place, (start, end) in retained.items():
            self._take(place, max(start, self._read.get(place, 0)), end, count)
        return self._count >= count

    def _take(self, place: TopicPartition, start: int, end: int, most: int) -> None:
        """Counts on in one partition, until there are enough in all."""
        for batch in recent.records(self._config, {place: (start, end)}):
            if self._count >= most:
                return
            self._count += sum(1 for _ in self._reader.usable(cast("list[Message]", batch)))
            self._read[place] = (batch[-1].offset() or 0) + 1
