"""Looks after a worker's topics and group beside its loop: what the broker answers, grants, and has from others.

An idle worker would notice a frozen broker or a deleted topic only with its next record.
"""

import time
from contextlib import closing
from threading import Event, Thread
from typing import Self

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AclOperation, AdminClient  # type: ignore[attr-defined]  # re-exported unsaid

from stream_detector.config import Config
from stream_detector.health import Health
from stream_detector.kafka.clients import admin
from stream_detector.kafka.group import Releases
from stream_detector.kafka.topic_descriptions import Described, described, fault, ids, is_silent, partitions
from stream_detector.runtime.release import release

__all__ = ["TopicWatch"]

PAUSE = 2.0  # seconds between two looks
TIMEOUT = 3.0  # seconds for an answer
RELEASES_PAUSE = 20.0  # seconds between two looks at who commits
MIXED = "the last bits of a score may differ between releases under one model version; finish the upgrade"

log = structlog.get_logger(__name__)


class TopicWatch:
    """Tells `health` about the broker, the telemetry topics, those `written`, and the group; a context manager with a thread."""

    def __init__(self, config: Config, written: tuple[str, ...], health: Health) -> None:
        self.ids: dict[str, str] = {}
        """Ids of the telemetry topics, as last seen; another object after every look."""
        self.health = health
        self._config = config
        self._written = written
        self._unanswered = f"no answer from {config.kafka.bootstrap_servers} within {TIMEOUT:.0f} s"
        self._telemetry: dict[str, Described] = {}
        self._others: frozenset[str] = frozenset()
        self._stop = Event()
        self._thread = Thread(target=self._look_after, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * TIMEOUT)

    def _look_after(self) -> None:
        client, due = admin(self._config.kafka), 0.0
        with closing(Releases(self._config)) as releases:
            while not self._stop.is_set():
                self._look(client)
                if self._telemetry and time.monotonic() >= due:
                    due = time.monotonic() + RELEASES_PAUSE
                    self._compare(releases)
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
        self._telemetry = {topic: found[topic] for topic in read}

    def _compare(self, releases: Releases) -> None:
        """Tells when workers of other releases begin to commit for the group, and when none does any more."""
        try:
            others = releases.others(partitions(self._telemetry), TIMEOUT)
        except KafkaException:  # a broker without an answer is told of by `_look`
            return
        if others != self._others:
            self._others, group, names = others, self._config.kafka.group_id, ", ".join(sorted(others))
            if others:
                log.warning("the group works with mixed releases", group=group, this=release(), others=names, why=MIXED)
            else:
                log.info("the group works with one release again", group=group, this=release())
            self.health.remark("releases", f"group {group!r} also works with {names}; {MIXED}" if others else None)
