"""Alerts and dead letters on their way into the open transaction."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any

import structlog
from confluent_kafka import KafkaError as Fault

from stream_detector.config import TopicsConfig
from stream_detector.control import ControlEvent
from stream_detector.detector import Outcome
from stream_detector.kafka.identity import TopicIds
from stream_detector.kafka.transaction import Offsets, Transaction
from stream_detector.records import CONNECT, Alert, DeadLetter

__all__ = ["Outbox", "envelope"]

KEPT_BYTES = 8_192
TOO_LARGE = frozenset({Fault.MSG_SIZE_TOO_LARGE, Fault.RECORD_LIST_TOO_LARGE})

log = structlog.get_logger(__name__)


class Outbox:
    """Sends outcomes; remembers what size of dead letter the broker will not take.

    `used` are the topics that messages of the last batch went to; `topic_ids` tell alerts' sources apart.
    """

    def __init__(self, transaction: Transaction, topics: TopicsConfig, topic_ids: TopicIds) -> None:
        self.used: tuple[str, ...] = ()
        self._transaction = transaction
        self._topics = topics
        self._topic_ids = topic_ids
        self._refused_bytes = sys.maxsize

    def sweep(self, topics: tuple[str, ...], offsets: Offsets, membership: Callable[[], bytes | None]) -> bool:
        """Ends what producers before this one left on `topics` and in the group; whether that went well."""
        self.used = topics
        return self._transaction.sweep(topics, offsets, membership)

    def send(self, outcome: Outcome) -> None:
        """Puts a batch's alerts and dead letters into the open transaction."""
        alerts, letters = outcome.alerts, outcome.dead_letters
        self.used = (self._topics.alerts,) * bool(alerts) + (self._topics.dead_letters,) * bool(letters)
        for alert in alerts:
            self._send_alert(alert)
        for letter in letters:
            self._send_letter(letter)

    def report(self, events: Sequence[ControlEvent]) -> None:
        """Puts control events into the open transaction."""
        self.used += (self._topics.control,) * bool(events)
        for event in events:
            key = f"{event.topic}-{event.partition}".encode()
            self._transaction.produce(self._topics.control, key, event.to_json(), [])

    def _send_alert(self, alert: Alert) -> None:
        value = alert.to_json()
        refused = partial(self._on_refused, self._topics.alerts, len(value))
        self._transaction.produce(
            self._topics.alerts, alert.key, value, alert.headers(self._topic_ids.get(alert.topic)), delivered=refused
        )

    def _send_letter(self, letter: DeadLetter) -> None:
        size = _size(letter)
        sent = envelope(letter) if size >= self._refused_bytes else letter
        refused = partial(self._on_refused, self._topics.dead_letters, size)
        self._transaction.produce(
            self._topics.dead_letters, sent.key, sent.value, list(sent.headers), sent.timestamp_ms, refused
        )

    def _on_refused(self, topic: str, size: int, fault: Fault | None, _message: Any) -> None:
        """Notes why; the transaction aborts, and the batch is sent again."""
        if fault is None:
            return
        if topic == self._topics.dead_letters and fault.code() in TOO_LARGE and size > 2 * KEPT_BYTES:
            self._refused_bytes = min(self._refused_bytes, size)
        log.debug("message refused", topic=topic, bytes=size, fault=fault.name())


def envelope(letter: DeadLetter) -> DeadLetter:
    """A dead letter for a broker that will not take the original: its beginning, length and digest."""
    value = letter.value or b""
    why = [header for header in letter.headers if header[0].startswith(CONNECT) and len(header[1] or b"") < KEPT_BYTES]
    described = [
        ("stream-detector.truncated.bytes", str(len(value)).encode()),
        ("stream-detector.truncated.sha256", sha256(value).hexdigest().encode()),
    ]
    key = letter.key[:KEPT_BYTES] if letter.key else letter.key
    return replace(letter, key=key, value=value[:KEPT_BYTES], headers=(*why, *described))


def _size(letter: DeadLetter) -> int:
    headers = sum(len(name) + len(content or b"") for name, content in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers
