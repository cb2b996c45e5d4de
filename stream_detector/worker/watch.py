"""Looks after a worker's topics beside its loop: whether the broker answers, and what may be read and written.

An idle worker would notice a frozen broker or a deleted topic only with its next record.
"""

from threading import Event, Thread
from typing import Self

from confluent_kafka.admin import AclOperation, AdminClient  # type: ignore[attr-defined]  # re-exported unsaid

from stream_detector.config import Config
from stream_detector.health import Health
from stream_detector.kafka.clients import admin
from stream_detector.kafka.topic_descriptions import described, fault, ids, is_silent

__all__ = ["Watch"]

PAUSE = 2.0  # seconds between two looks
TIMEOUT = 3.0  # seconds for an answer


class Watch:
    """Tells `health` about the broker, the telemetry topics and those `written`; a context manager with a thread."""

    def __init__(self, config: Config, written: tuple[str, ...], health: Health) -> None:
        self.ids: dict[str, str] = {}
        """Of the telemetry topics, as last seen; another object after every look."""
        self.health = health
        self._config = config
        self._written = written
        self._unanswered = f"no answer from {config.kafka.bootstrap_servers} within {TIMEOUT:.0f} s"
        self._stop = Event()
        self._thread = Thread(target=self._look_after, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * TIMEOUT)

    def _look_after(self) -> None:
        client = admin(self._config.kafka)
        while not self._stop.is_set():
            self._look(client)
            self._stop.wait(PAUSE)

    def _look(self, client: AdminClient) -> None:
        read = self._config.topics.telemetry
        found = described(client, (*read, *self._written), TIMEOUT)
        away = is_silent(found)
        self.health.broker_reachable = not away
        self.health.trouble("broker", self._unanswered if away else None)
        if away:
            return
        faults = [fault(topic, found[topic], AclOperation.READ) for topic in read]
        faults += [fault(topic, found[topic], AclOperation.WRITE) for topic in self._written]
        self.health.trouble("topics", "; ".join(filter(None, faults)) or None)
        self.ids = {topic: identity for topic, identity in ids(found).items() if topic in read}
