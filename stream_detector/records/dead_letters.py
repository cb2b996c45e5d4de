"""Records that could not be used, as they cross Kafka: original bytes, and the reason in headers.

A dead letter can be made of any original, and made again: a part that cannot be read is named in a header.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from gc import get_referents
from operator import methodcaller
from typing import Any

from stream_detector.features import Rejection
from stream_detector.foreign import printable
from stream_detector.records.message import Header, Message, raw

__all__ = ["CONNECT", "DeadLetter"]

CONNECT = "__connect.errors."
OWN = "stream-detector."
ORIGINAL = OWN + "original."
"""Prefix for the name of an original's header that would pass for one of ours."""

LOST = OWN + "lost"
UNREADABLE = ORIGINAL + "unreadable-name"
LOG_APPEND_TIME = 2  # what the client calls a timestamp that the broker set


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used: its original bytes, and why; `timestamp_ms` 0 is the time of sending."""

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
        """Makes a letter with key, value, headers and timestamp untouched, plus Kafka Connect's error headers.

        Never raises. An original's header whose name begins as ours do is renamed.
        """
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        lost: list[str] = []
        key, value = raw(_part(message, "key", lost)), raw(_part(message, "value", lost))
        kind, timestamp = _part(message, "timestamp", lost) or (0, 0)
        headers = [*_carried(_headers(message, lost), lost), *_context(topic, partition, offset, rejection)]
        if kind == LOG_APPEND_TIME:
            headers.append((ORIGINAL + "timestamp.type", b"LogAppendTime"))
        if lost:
            headers.append((LOST, ",".join(dict.fromkeys(lost)).encode()))
        letter = cls(topic, partition, offset, key, value, tuple(headers), timestamp, rejection.reason)
        # For the client 0 is no time but the present.
        return letter.stamped_anew() if kind and not timestamp else letter

    def stamped_anew(self) -> "DeadLetter":
        """This letter with the time of sending; the original's time is in a header."""
        stamp: Header = (ORIGINAL + "timestamp", str(self.timestamp_ms).encode())
        return replace(self, timestamp_ms=0, headers=(*self.headers, stamp))


def _part(message: Message, name: str, lost: list[str]) -> Any:
    """The result of a message's method; None, and its name is added to `lost`, when it fails."""
    try:
        # Called from Python, the client's failure may surface anywhere later: the interpreter leaves out a check.
        return methodcaller(name)(message)
    except Exception:  # noqa: BLE001 - whatever foreign bytes make the client raise
        lost.append(name)
        return None


def _headers(message: Message, lost: list[str]) -> list[tuple[str, Any]]:
    """The headers as the client hands them out; asked again after a failure, it leaves out what it cannot read."""
    failed: list[str] = []
    found = _part(message, "headers", failed) or (_part(message, "headers", lost) if failed else None)
    return found or []


def _carried(headers: list[tuple[str, Any]], lost: list[str]) -> Iterator[Header]:
    """Headers that can be sent, none of which passes for one of ours."""
    for header in headers:
        # A name that is no UTF-8 leaves a hole in its pair, and who unpacks that brings the process down.
        parts = get_referents(header)
        if len(parts) < 2:
            lost.append("headers")
            yield UNREADABLE, parts[0] if parts else None
            continue
        name, content = header
        yield (ORIGINAL + name if name.startswith((CONNECT, OWN)) else name), content


def _context(topic: str, partition: int, offset: int, rejection: Rejection) -> list[Header]:
    return [
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
