"""Finds where partitions begin: at the group's committed offset, if it is one of the topic that is there now.

An offset is committed with the id of its topic beside it. A topic deleted and created anew under
the same name has another id, and then the offset says nothing about it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import KafkaError as Fault
from confluent_kafka import TopicPartition as TopicPartitionOffset

from stream_detector.config import Config
from stream_detector.errors import OffsetsLostError
from stream_detector.kafka import topics
from stream_detector.kafka.clients import admin
from stream_detector.kafka.faults import explained
from stream_detector.kafka.group import topic_id
from stream_detector.kafka.topic_descriptions import TopicIds, described, ids
from stream_detector.records import TopicPartition

__all__ = ["Start", "Starts"]

REQUEST = 5.0  # seconds for a request about offsets

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a partition begins, whether that is committed, and what the partition held when it was looked up."""

    offset: int
    committed: bool
    low: int
    high: int


class Starts:
    """Looks starts up, for many partitions at once; counts what was lost, and topics that were created anew.

    `ids` are the ids of topics as they were seen last, always in the same dictionary. `recreated_topics` are topics that
    turned out to be created anew, until the caller has dealt with them.
    """

    def __init__(self, config: Config, consumer: Consumer) -> None:
        self.ids: dict[str, str] = {}
        self.offsets_lost = self.recreated = 0
        self.recreated_topics: set[str] = set()
        self._config = config
        self._consumer = consumer
        self._admin = admin(config.kafka)

    def find(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Start]:
        """Finds the start of each partition: without an offset, or with a lost one, it is the first.

        Raises `OffsetsLostError` where `worker.on_offsets_lost` says so, a `KafkaError` or KafkaException.
        """
        names = list(partitions)
        self.learn(ids(described(self._admin, {topic for topic, _ in names}, REQUEST)))
        committed = {(each.topic, each.partition): each for each in self.committed(names)}
        reach = topics.reach(self._admin, self._config.kafka, names, REQUEST)
        return {name: self._start(name, committed.get(name), reach[name]) for name in names}

    def begin_at_the_end(self) -> None:
        """Commits the ends for a group that has no offset at all; refused, and rightly, once it has members."""
        marks = topics.watermarks(self._config.kafka, self._config.topics.telemetry)
        try:
            if self.committed(marks):
                return
            ends = [TopicPartitionOffset(*partition, reach.high) for partition, reach in marks.items()]
            self._consumer.commit(offsets=ends, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in {Fault.UNKNOWN_MEMBER_ID, Fault.ILLEGAL_GENERATION}:
                raise explained(error.args[0], f"group {self._config.kafka.group_id!r}") from None

    def committed(self, partitions: Iterable[TopicPartition]) -> list[TopicPartitionOffset]:
        """The group's committed offsets, those that exist; raises KafkaException."""
        held = self._consumer.committed([TopicPartitionOffset(*partition) for partition in partitions], timeout=REQUEST)
        for each in held:
            if each.error is not None:
                raise KafkaException(each.error)
        return [each for each in held if each.offset >= 0]

    def learn(self, found: TopicIds) -> None:
        """Takes ids of topics; one that had another id before was created anew, which is reported and noted."""
        for topic, identity in found.items():
            before = self.ids.get(topic, identity)
            if before != identity:
                self.recreated += 1
                self.recreated_topics.add(topic)
                log.error("topic was created anew under the same name", topic=topic, id_before=before, id=identity)
        self.ids.update(found)

    def _start(self, name: TopicPartition, held: TopicPartitionOffset | None, reach: topics.Watermarks) -> Start:
        low, high = reach
        if held is None:
            return Start(low, committed=False, low=low, high=high)
        identity, before = self.ids.get(name[0]), topic_id(held)
        anew = None not in {identity, before} and before != identity
        if low <= held.offset <= high and not anew:
            return Start(held.offset, committed=True, low=low, high=high)
        self._report_loss(name, held.offset, reach, f"{before} was its id then, {identity} is now" if anew else "")
        return Start(low, committed=False, low=low, high=high)

    def _report_loss(self, name: TopicPartition, committed: int, reach: topics.Watermarks, anew: str) -> None:
        low, high = reach
        if anew or committed > high:
            proof = anew or f"it ends at {high:,}"
            gap = f"the topic was created anew since offset {committed:,} was committed ({proof})"
        else:
            gap = f"offsets {committed:,} to {low - 1:,} were deleted before they were read"
        message = f"topic {name[0]!r}, partition {name[1]}: {gap}"
        if self._config.worker.on_offsets_lost == "fail":
            raise OffsetsLostError(f"{message}; set worker.on_offsets_lost: continue to go on at {low:,}")
        if not anew:
            self.offsets_lost += max(0, low - committed)
        log.error(
            "offsets lost, going on",
            topic=name[0],
            partition=name[1],
            why=gap,
            committed=committed,
            low=low,
            high=high,
        )
