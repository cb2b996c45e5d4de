"""The end of a bounded run: every offset that existed at its start is committed by the group."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Self

from confluent_kafka import KafkaException

from stream_detector.config import Config
from stream_detector.kafka import topics
from stream_detector.kafka.topics import Watermarks
from stream_detector.records import TopicPartition
from stream_detector.worker.source import Source

__all__ = ["Goal"]

INTERVAL = 0.2  # seconds between two looks at what is committed


class Goal:
    """Watches the group's offsets, so that it holds for all workers of the group together."""

    def __init__(
        self,
        marks: Mapping[TopicPartition, Watermarks],
        committed: Callable[[Iterable[TopicPartition]], Mapping[TopicPartition, int]],
        following: Callable[[TopicPartition], int | None],
        settled: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ends = {partition: reach.high for partition, reach in marks.items() if reach.high > reach.low}
        self._committed = committed
        self._following = following
        self._settled = settled
        self._looked_at = 0.0

    @classmethod
    def of(cls, config: Config, source: Source) -> Self:
        """What the telemetry topics hold now; raises as `topics.watermarks`."""
        marks = topics.watermarks(config.kafka, config.topics.telemetry)
        return cls(marks, source.committed, source.assignment.following, lambda: source.is_settled)

    def is_reached(self) -> bool:
        """Whether all is committed, as far as was seen a moment ago."""
        if self._ends and time.monotonic() - self._looked_at > INTERVAL and not self._is_under_way():
            self._look()
        return not self._ends

    def _is_under_way(self) -> bool:
        """Whether this worker has not even begun, or not taken all of its own partitions: then asking is in vain.

        What is committed may be of no use, and only who begins to read finds that out.
        """
        if not self._settled():
            return True
        positions = ((self._following(partition), end) for partition, end in self._ends.items())
        return any(following is not None and following < end for following, end in positions)

    def _look(self) -> None:
        try:
            held = self._committed(self._ends)
        except KafkaException:  # the next look will tell
            held = {}
        self._ends = {partition: end for partition, end in self._ends.items() if held.get(partition, -1) < end}
        self._looked_at = time.monotonic()
