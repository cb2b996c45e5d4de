"""Judges the records of a time span by a model that may not have served then; no offset is touched."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from stream_detector.audit import alerts_topic
from stream_detector.audit.replay import RecordPosition, state_at
from stream_detector.config import Config
from stream_detector.detector import Outcome
from stream_detector.errors import NotRetainedError
from stream_detector.kafka import reads, topics
from stream_detector.model import DetectorModel
from stream_detector.records import TopicPartition
from stream_detector.worker.judge import Judge

if TYPE_CHECKING:
    from stream_detector.records import Message

__all__ = ["Backtest", "Span", "backtest", "judged", "spans"]

Progress = Callable[[int, int, str], None]
Span = tuple[int, int]
"""First offset, and the one after the last."""


@dataclass(slots=True)
class Backtest:
    """Compares the alerts that a backtest raised with those on the alerts topic.

    `raised` and `recorded` map a record's position to its score and threshold, nines.
    """

    records: int = 0
    dead_lettered: int = 0
    raised: dict[RecordPosition, tuple[float, float]] = field(default_factory=dict)
    recorded: dict[RecordPosition, tuple[float, float]] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Gives the alerts a record; 0 without records."""
        return len(self.raised) / max(self.records, 1)

    @property
    def recorded_rate(self) -> float:
        """Gives the alerts on the alerts topic a record; 0 without records."""
        return len(self.recorded) / max(self.records, 1)

    @property
    def added(self) -> list[RecordPosition]:
        """Lists the records that only the backtest flags."""
        return sorted(self.raised.keys() - self.recorded.keys())

    @property
    def lost(self) -> list[RecordPosition]:
        """Lists the records with an alert on the topic that the backtest does not flag."""
        return sorted(self.recorded.keys() - self.raised.keys())

    def take(self, outcome: Outcome) -> None:
        """Adds the outcome of a batch."""
        self.records += outcome.normal + len(outcome.alerts) + len(outcome.dead_letters)
        self.dead_lettered += len(outcome.dead_letters)
        for alert in outcome.alerts:
            self.raised[RecordPosition(alert.topic, alert.partition, alert.offset, alert.row)] = (
                alert.score,
                alert.threshold,
            )


def backtest(config: Config, model: DetectorModel, begin_ms: int, end_ms: int | None, progress: Progress) -> Backtest:
    """Judges the retained records with timestamps from `begin_ms` until before `end_ms` (epoch; None: all).

    Thresholds are as if the model had been in force long before. Raises `NotRetainedError` when
    there is no record in that time, or a `KafkaError`.
    """
    reach = spans(config, begin_ms, end_ms)
    total = sum(end - start for start, end in reach.values())
    if not total:
        raise NotRetainedError(
            f"{', '.join(config.topics.telemetry)}: no record of that time is retained; give an earlier --from, "
            "or a later --to"
        )
    result = Backtest(recorded=_recorded(config, reach))
    judge = Judge(model, config)
    passed = 0
    for (topic, partition), (start, end) in reach.items():
        for outcome, following in judged(config, judge, RecordPosition(topic, partition, start), end):
            result.take(outcome)
            progress(passed + following - start, total, f"{topic}-{partition}: {len(result.raised):,} alerts")
        passed += end - start
    return result


def spans(config: Config, begin_ms: int, end_ms: int | None) -> dict[TopicPartition, Span]:
    """Finds the offsets of every telemetry partition whose records bear timestamps in that time."""
    kafka, names = config.kafka, config.topics.telemetry
    starts = topics.offsets_at(kafka, names, begin_ms)
    ends = topics.end_offsets(kafka, names) if end_ms is None else topics.offsets_at(kafka, names, end_ms)
    return {partition: (start, max(start, ends[partition])) for partition, start in sorted(starts.items())}


def judged(config: Config, judge: Judge, start: RecordPosition, end: int) -> Iterator[tuple[Outcome, int]]:
    """Yields the outcomes of a partition's records from `start` to before `end`, each with the offset after it.

    The first threshold and context are rebuilt from the records before `start`.
    """
    topic, partition = place = start.topic, start.partition
    state = state_at(config, judge, start)
    for batch in reads.read(config.kafka, topic, partition, start.offset, end):
        left = cast("list[Message]", batch)
        while part := left[: judge.limit]:
            outcome = judge.judge(part, {place: state.threshold}, contexts=state.contexts(place))
            if outcome is None:  # the cause is removed: again, from before it
                first = RecordPosition(topic, partition, part[0].offset() or 0)
                state = state_at(config, judge, first)
                continue
            yield outcome, (part[-1].offset() or 0) + 1
            left = left[len(part) :]


def _recorded(config: Config, reach: Mapping[TopicPartition, Span]) -> dict[RecordPosition, tuple[float, float]]:
    found = {}
    for alert in alerts_topic.everything(config):
        start, end = reach.get((alert.topic, alert.partition), (0, 0))
        if start <= alert.offset < end:
            found[RecordPosition(alert.topic, alert.partition, alert.offset, alert.row)] = alert.score, alert.threshold
    return found
