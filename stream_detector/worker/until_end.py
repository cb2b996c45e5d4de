"""Finds the end of a bounded run: the group has committed every offset that existed at its start."""

import time

from confluent_kafka import KafkaException

from stream_detector.config import Config
from stream_detector.kafka import topics
from stream_detector.worker.source import Source

__all__ = ["UntilEnd"]

INTERVAL = 0.2  # seconds between two looks at what is committed


class UntilEnd:
    """Watches the group's offsets, so that the end holds for all workers of the group together.

    The end is what the telemetry topics hold now; raises as `topics.watermarks`.
    """

    def __init__(self, config: Config, source: Source) -> None:
        marks = topics.watermarks(config.kafka, config.topics.telemetry)
        self._ends = {partition: reach.high for partition, reach in marks.items() if reach.high > reach.low}
        self._source = source
        self._looked_at = 0.0

    def is_reached(self) -> bool:
        """Whether all is committed, as far as was seen a moment ago."""
        if self._ends and time.monotonic() - self._looked_at > INTERVAL and not self._is_under_way():
            self._look()
        return not self._ends

    def _is_under_way(self) -> bool:
        """Whether this worker has not even begun, or not taken all of its own partitions: then asking is in vain.

        What is committed may be of no use, and only who begins to read finds that out.
        """
        if not self._source.is_settled:
            return True
        return any(owned.next_offset < self._ends.get(owned.name, 0) for owned in self._source.assignment.reading)

    def _look(self) -> None:
        try:
            held = self._source.committed(self._ends)
        except KafkaException:  # the next look will tell
            held = {}
        self._ends = {partition: end for partition, end in self._ends.items() if held.get(partition, -1) < end}
        self._looked_at = time.monotonic()
