"""Alert rate and detection before the release, between release and swap, and after."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from benchmarks.drift.dispositions import Dispositions
from benchmarks.drift.traffic import step_of
from producers.faults import Fault, record_id
from stream_detector.config import Config
from stream_detector.kafka.follow import follow
from stream_detector.records import TopicPartition, raw

__all__ = ["PHASES", "Phase", "Seen", "Span", "phases", "sightings"]

PHASES = ("before", "drift", "between", "after")

Span = tuple[float, float]
"""Offsets of a partition: the first judged by a model that came after the release, and by the last such model."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One record of the live stream: its place, its id, and whether it was flagged."""

    partition: TopicPartition
    offset: int
    id: str
    flagged: bool


@dataclass(frozen=True, slots=True)
class Phase:
    """Counts of a phase; of the faults, those that lie in it whole. One is detected when a record of it is flagged."""

    records: int
    alerts: int
    faults: frozenset[Fault]
    detected: frozenset[Fault]

    @property
    def rate(self) -> float:
        """Alerts a record."""
        return self.alerts / max(self.records, 1)

    @property
    def recall(self) -> float:
        """Detected faults a fault."""
        return len(self.detected) / max(len(self.faults), 1)


def sightings(config: Config, starts: Mapping[TopicPartition, int], done: Dispositions) -> list[Seen]:
    """Every record from `starts` on, in the order of its partition."""
    flagged = {((alert.topic, alert.partition), alert.offset) for alert in done.alerts}
    found = []
    for message in follow(config.kafka, config.topics.telemetry[0], from_beginning=True, endless=False):
        partition, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
        if offset >= starts[partition]:
            record = json.loads(raw(message.value()) or b"")
            found.append(Seen(partition, offset, record["id"], (partition, offset) in flagged))
    return found


def phases(
    seen: Collection[Seen], labels: Mapping[str, Fault], release_step: int, swaps: Mapping[TopicPartition, Span]
) -> dict[str, Phase]:
    """The phases; between the first swap after the release and the last there is usually nothing."""
    names = {each.id: _phase(each, release_step, swaps) for each in seen}
    detected = {labels[each.id] for each in seen if each.flagged and each.id in labels}
    whole: dict[str, set[Fault]] = {name: set() for name in PHASES}
    for fault in set(labels.values()):
        own = {names.get(record_id(fault.entity, step)) for step in range(fault.start, fault.end + 1)}
        if len(own) == 1 and (name := own.pop()):
            whole[name].add(fault)
    return {
        name: Phase(
            records=sum(phase == name for phase in names.values()),
            alerts=sum(each.flagged and names[each.id] == name for each in seen),
            faults=frozenset(whole[name]),
            detected=frozenset(whole[name] & detected),
        )
        for name in PHASES
    }


def _phase(each: Seen, release_step: int, swaps: Mapping[TopicPartition, Span]) -> str:
    if step_of(each.id) < release_step:
        return "before"
    first, last = swaps[each.partition]
    return "drift" if each.offset < first else "between" if each.offset < last else "after"
