"""Records that could not be used, as they cross Kafka: original bytes, and the reason in headers."""

from dataclasses import dataclass

from stream_detector.features import Rejection
from stream_detector.records.message import Header, Message, printable, raw

__all__ = ["CONNECT", "DeadLetter"]

CONNECT = "__connect.errors."


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used: its original bytes, and why."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp_ms: int
    reason: str

    @classmethod
    def of(cls, message: Message, rejection: Rejection) -> "DeadLetter":
        """Key, value, headers and timestamp untouched, plus Kafka Connect's error headers."""
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        context: list[Header] = [
            (CONNECT + "topic", topic.encode()),
            (CONNECT + "partition", str(partition).encode()),
            (CONNECT + "offset", str(offset).encode()),
            (CONNECT + "connector.name", b"stream-detector"),
            (CONNECT + "task.id", b"0"),
            (CONNECT + "stage", b"VALUE_CONVERTER"),
            (CONNECT + "class.name", b"stream_detector.records"),
            (CONNECT + "exception.class.name", rejection.reason.encode()),
            (CONNECT + "exception.message", printable(rejection.message).encode()),
        ]
        kind, timestamp = message.timestamp()
        return cls(
            topic,
            partition,
            offset,
            raw(message.key()),
            raw(message.value()),
            (*(message.headers() or ()), *context),
            timestamp if kind else 0,
            rejection.reason,
        )
