"""Follows the control topic as it grows."""

import structlog
from confluent_kafka import Message
from confluent_kafka import TopicPartition as TopicPartitionOffset

from stream_detector.config import Config
from stream_detector.kafka import topics
from stream_detector.kafka.clients import reader
from stream_detector.records import raw
from stream_detector.records.control_events import ControlEvent, is_progress

__all__ = ["ControlWatch"]

MOST = 1_000  # messages taken at once

log = structlog.get_logger(__name__)


class ControlWatch:
    """Follows control events without blocking; for one thread, closed after use.

    It begins with what was written at `since_ms` (epoch ms) or later; without it, with what is written from now on.
    Raises `TopicMissingError` without a control topic.
    """

    def __init__(self, config: Config, since_ms: int | None) -> None:
        topic = [config.topics.control]
        ends = topics.end_offsets(config.kafka, topic)
        starts = ends if since_ms is None else topics.offsets_at(config.kafka, topic, since_ms)
        self._consumer = reader(config.kafka)
        self._consumer.assign([TopicPartitionOffset(*partition, offset) for partition, offset in starts.items()])

    def poll(self) -> list[ControlEvent]:
        """Gives the events since the last call; a message that is no control event is logged and skipped."""
        messages = [message for message in self._consumer.consume(MOST, 0.1) if message.error() is None]
        return [event for event in map(_event, messages) if event is not None]

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()


def _event(message: Message) -> ControlEvent | None:
    value = raw(message.value()) or b""
    try:
        return ControlEvent.from_json(value)
    except ValueError as error:
        if not is_progress(value):
            offset = message.offset()
            log.warning("control event passed over", topic=message.topic(), offset=offset, error=str(error)[:200])
        return None
