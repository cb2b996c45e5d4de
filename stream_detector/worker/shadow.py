"""Compares a candidate with the model in force: it judges the same records, and nothing it does counts.

What fails here ends the shadow, never the worker. Comparisons are sent once their records are
committed, outside the transaction: one may be lost when a worker dies, none is counted twice.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from itertools import groupby

import structlog
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, Message, Producer

from stream_detector.config import Config
from stream_detector.detector import Outcome
from stream_detector.kafka import reads, topics
from stream_detector.kafka.clients import plain_producer
from stream_detector.kafka.faults import Blame, blame
from stream_detector.records import Arrivals, raw
from stream_detector.records.comparison import Comparison
from stream_detector.scoring.threshold import RollingThreshold
from stream_detector.worker.judge import Judge
from stream_detector.worker.model_swap import Candidate
from stream_detector.worker.output.producer import Outgoing
from stream_detector.worker.output.topic_limits import TopicLimits
from stream_detector.worker.partitions.assignment import Assignment, OwnedPartition
from stream_detector.worker.partitions.restore import CaughtUp, catch_up

__all__ = ["Shadow", "compared"]

FLUSH = 5.0  # seconds that the last comparison may take on its way

log = structlog.get_logger(__name__)


class Shadow:
    """Scores a candidate beside a worker's model; `left_out` comparisons had no form that their topic takes.

    `beat` is called where judging takes long.
    """

    def __init__(self, config: Config, assignment: Assignment, beat: Callable[[], None] = lambda: None) -> None:
        self.candidate: Candidate | None = None
        self.left_out = 0
        self._config = config
        self._assignment, self._beat = assignment, beat
        self._producer: Producer | None = None
        self._open: Comparison | None = None
        self._settled: list[Comparison] = []
        self._limits = TopicLimits(config.topics.shadow)
        self._number = 0

    @property
    def version(self) -> str | None:
        """The candidate's version."""
        return self.candidate.judge.model.version if self.candidate else None

    def change(self, candidate: Candidate | None) -> None:
        """Goes on with another candidate, or with none; what is not committed yet does not count."""
        self.send()
        self.candidate, self._open = candidate, None
        for owned in self._assignment:
            owned.shadow = candidate.known.get(owned.name) if candidate else None
        log.info("shadow", version=self.version)

    def judge(self, arrivals: Arrivals, outcome: Outcome, champion: str) -> None:
        """Judges a batch as the champion did, before its messages are kept as recent ones."""
        candidate = self.candidate
        if candidate is None:
            return
        try:
            own = self._judged(candidate.judge, arrivals)
        except Exception as error:  # noqa: BLE001 - it may not touch what counts
            log.warning("shadow failed and is ended", version=self.version, why=repr(error))
            self.change(None)
            return
        if own is None:  # a record that it fails on is set aside now, and its thresholds have moved
            for owned in self._assignment:
                owned.shadow = None
            return
        ids = ([alert.id for alert in each.alerts] for each in (own, outcome))
        found = Comparison.of(candidate.judge.model.version, champion, outcome.records, *ids)
        self._open = self._open.plus(found) if self._open else found

    def settle(self) -> None:
        """Keeps the comparison of what was just committed, to be sent."""
        if self._open:
            self._settled.append(self._open)
        self._open = None

    def drop(self) -> None:
        """Drops the comparison of what was not committed, and will be judged again."""
        self._open = None

    def send(self) -> None:
        """Sends what is settled since the last time, one message for each champion."""
        settled, self._settled = self._settled, []
        try:
            for _, run in groupby(settled, lambda comparison: comparison.champion):
                self._send(reduce(Comparison.plus, run))
        except (KafkaException, BufferError) as error:
            log.warning("comparison lost", why=str(error))

    def close(self) -> None:
        """Sends what is left."""
        self.send()
        if self._producer:
            self._producer.flush(FLUSH)

    def _send(self, comparison: Comparison) -> None:
        self._producer = self._producer or plain_producer(self._config.kafka)
        candidate, self._number = comparison.candidate, self._number + 1
        name = f"comparison {self._number} of {candidate}"
        self._write(self._producer, Outgoing(name, candidate.encode(), comparison.to_json()))
        self._producer.poll(0)

    def _write(self, producer: Producer, message: Outgoing) -> None:
        """Sends a message in the form that its topic takes, as far as is known."""
        form = self._limits.form(message)
        if form is None:
            self.left_out += 1
            return
        told = partial(self._on_delivered, producer, message, form)
        producer.produce(
            self._config.topics.shadow,
            form.value,
            form.key,
            partition=0,
            headers=list(form.headers),
            timestamp=form.timestamp_ms,
            on_delivery=told,
        )

    def _on_delivered(
        self, producer: Producer, message: Outgoing, form: Outgoing, fault: Fault | None, _report: Message
    ) -> None:
        if fault is None:
            return
        if blame(fault) is Blame.MESSAGE:
            self._limits.learn(form, fault)
            self._write(producer, message)
        else:
            log.warning("comparison lost", why=fault.str())

    def _judged(self, judge: Judge, arrivals: Arrivals) -> Outcome | None:
        """Judges a batch with the candidate; moves its thresholds, and notes how far they have seen."""
        lasts = {name: int(arrivals.offsets[run][-1]) for name, run in arrivals.runs}
        states = {name: _caught_up(judge, self._assignment[name]) for name in lasts}
        thresholds = {name: state.threshold for name, state in states.items()}
        contexts = {name: state.context for name, state in states.items() if state.context}
        outcome = judge.judge(arrivals, thresholds, beat=self._beat, contexts=contexts)
        for name, last in lasts.items():
            self._assignment[name].shadow = replace(states[name], last=last)
        return outcome


def _caught_up(judge: Judge, owned: OwnedPartition) -> CaughtUp:
    """Finds a partition's threshold and context under the candidate; what did not see the last message catches up."""
    known, last = owned.shadow, owned.recent.last
    if known and last is not None and known.last == last:
        return known
    if found := catch_up(judge, owned.recent.past(), known):
        return found
    model = judge.context_model
    return CaughtUp(RollingThreshold(judge.limits), last, model.begin(owned.next_offset) if model else None)


def compared(config: Config, candidate: str, champion: str) -> Comparison:
    """Adds up all comparisons of two models that the shadow topic holds; raises `TopicMissingError` without a topic."""
    total = Comparison(candidate, champion)
    for (topic, partition), marks in topics.watermarks(config.kafka, [config.topics.shadow]).items():
        for batch in reads.read(config.kafka, topic, partition, marks.low, marks.high):
            for message in batch:
                try:
                    found = Comparison.from_json(raw(message.value()) or b"")
                except ValueError as error:
                    log.warning("passed over", topic=topic, offset=message.offset(), error=str(error)[:200])
                    continue
                if (found.candidate, found.champion) == (candidate, champion):
                    total = total.plus(found)
    return total
