"""Reads a consumer group from its committed offsets: how far it has come, in which topics, and by which release.

Beside each offset facts are committed, in its metadata. One is the release that judged the records before it. Figures
of what is remembered of entities follow, where the model has a context. The last is the topic's id: a topic that is
deleted and created anew under the same name has another one. It stands last, for releases that know no other fact take
all that follows `topic_id=` for it, and only at the beginning.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as TopicPartitionOffset

from stream_detector.config import Config
from stream_detector.kafka.clients import offsets_reader, require_broker
from stream_detector.kafka.faults import translate
from stream_detector.kafka.topics import watermarks
from stream_detector.records import TopicPartition
from stream_detector.runtime.release import release

__all__ = [
    "UNNAMED",
    "Beside",
    "PartitionProgress",
    "Releases",
    "offset_metadata",
    "progress",
    "release_before",
    "topic_id",
]

Beside = Callable[[TopicPartition], str]
"""Tells what is committed beside a partition's offset."""
RELEASE, CONTEXT, TOPIC = "release=", "context=", "topic_id="
UNNAMED = "unnamed"
"""A release before 0.2.0, which does not name itself; or nobody: an offset set by hand."""
TIMEOUT = 10.0  # seconds
KEPT = 1_024  # texts that are at hand: as many as a worker has partitions
STARTING = {Fault.COORDINATOR_LOAD_IN_PROGRESS, Fault.COORDINATOR_NOT_AVAILABLE, Fault.NOT_COORDINATOR}


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """Holds one partition's committed offset (None: none yet), the offsets that are retained, and who committed.

    `release` names the release that judged the records before the offset; None without an offset. `context` are figures
    of what is remembered of entities at that offset, None where the model has no context: entities, evictions, bytes, and
    of the records read since the worker began there, and of its threshold's window: all, full and partial ones.
    """

    topic: str
    partition: int
    committed: int | None
    low: int
    end: int
    release: str | None = None
    context: Mapping[str, int] | None = None

    @property
    def lag(self) -> int:
        """Counts the offsets still to be read, without those that retention dropped."""
        return self.end - min(max(self.committed or self.low, self.low), self.end)

    def to_dict(self) -> dict[str, Any]:
        """Gives plain JSON values."""
        return {**asdict(self), "lag": self.lag}


@lru_cache(KEPT)
def offset_metadata(topic_id: str | None, context: tuple[tuple[str, int], ...] = ()) -> str:
    """Gives the text that this release commits beside an offset of a topic; the id is None where it is not known.

    `context` are figures with their names, of letters. Without any the text is made once for a topic.
    """
    figures = ",".join(f"{name}:{figure}" for name, figure in context)
    facts = RELEASE + release(), CONTEXT + figures if figures else "", TOPIC + topic_id if topic_id else ""
    return " ".join(filter(None, facts))


def topic_id(committed: TopicPartitionOffset) -> str | None:
    """Reads the topic's id that was committed beside an offset; None without one."""
    return _fact(committed, TOPIC)


def release_before(committed: TopicPartitionOffset) -> str:
    """Reads which release judged the records before a committed offset; `UNNAMED` where it does not say so."""
    return _fact(committed, RELEASE) or UNNAMED


class Releases:
    """Watches which releases commit offsets of the group; for one thread, closed after use."""

    def __init__(self, config: Config) -> None:
        self._consumer = offsets_reader(config.kafka)
        self._offsets: dict[TopicPartition, int] = {}
        self._at_work: dict[TopicPartition, str] = {}

    def others(self, partitions: Iterable[TopicPartition], timeout: float) -> frozenset[str]:
        """Names the releases other than this one that made the last commit of a partition since the first call.

        What was committed before the first call does not count: an upgrade begins with offsets of the release before.
        Waits `timeout` seconds for an answer; raises `KafkaException`.
        """
        found = self._consumer.committed([TopicPartitionOffset(*each) for each in partitions], timeout)
        for held in found:
            partition = held.topic, held.partition
            if held.error is None and held.offset != self._offsets.setdefault(partition, held.offset):
                self._offsets[partition] = held.offset
                self._at_work[partition] = release_before(held)
        return frozenset(self._at_work.values()) - {release()}

    def close(self) -> None:
        """Lets go of the connections."""
        self._consumer.close()


def progress(config: Config) -> list[PartitionProgress]:
    """Tells how far the group has come in every partition of the telemetry topics, in order.

    Raises `BrokerUnavailableError` or `TopicMissingError`.
    """
    require_broker(config.kafka)
    reaches = watermarks(config.kafka, config.topics.telemetry)
    committed = _committed(config, list(reaches))
    found = []
    for (topic, partition), (low, high) in sorted(reaches.items()):
        held = committed.get((topic, partition))
        facts = (held.offset, release_before(held), _context(held)) if held else (None, None, None)
        offset, by, context = facts
        found.append(PartitionProgress(topic, partition, offset, low, high, by, context))
    return found


def _fact(committed: TopicPartitionOffset, label: str) -> str | None:
    facts = (committed.metadata or "").split(" ")
    return next((fact.removeprefix(label) for fact in facts if fact.startswith(label)), None)


def _context(committed: TopicPartitionOffset) -> dict[str, int] | None:
    """Reads the figures of a context; what is no figure, of a release to come or written by hand, is left out."""
    said = _fact(committed, CONTEXT)
    pairs = [pair.partition(":") for pair in said.split(",")] if said else []
    return {name: int(figure) for name, _, figure in pairs if figure.isdecimal()} or None


def _committed(config: Config, partitions: list[TopicPartition]) -> dict[TopicPartition, TopicPartitionOffset]:
    """Asks for the group's committed offsets, by a consumer that does not join it.

    A broker that nobody has asked before has no coordinator for the group yet: asked again. The admin client is of no
    use for that, it has crashed after such an answer.
    """
    deadline = time.monotonic() + TIMEOUT
    with closing(offsets_reader(config.kafka)) as consumer:
        while True:
            try:
                found = consumer.committed([TopicPartitionOffset(t, p) for t, p in partitions], TIMEOUT)
                break
            except KafkaException as error:
                if error.args[0].code() not in STARTING or time.monotonic() > deadline:
                    raise translate(error, f"group {config.kafka.group_id!r}") from None
            time.sleep(0.1)
    return {(held.topic, held.partition): held for held in found if held.offset >= 0}
