"""Makes every record count once: what a worker takes is committed together with what it gives, or read again.

docs/delivery.md says step by step what happens when something fails here.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from confluent_kafka import KafkaException

from stream_detector.config import Config
from stream_detector.detector import Outcome
from stream_detector.errors import KafkaError
from stream_detector.health import Health
from stream_detector.kafka.clients import transactional_id
from stream_detector.kafka.faults import explained
from stream_detector.kafka.group import offset_metadata
from stream_detector.kafka.retry import Retry
from stream_detector.kafka.topic_descriptions import TopicIds
from stream_detector.records import Arrivals, TopicPartition
from stream_detector.worker.judge import Judge
from stream_detector.worker.output.states import State
from stream_detector.worker.output.transactional_output import TransactionalOutput
from stream_detector.worker.partitions.assignment import Received
from stream_detector.worker.partitions.restore import CaughtUp
from stream_detector.worker.shadow import Shadow
from stream_detector.worker.source import Source
from stream_detector.worker.starting import transaction, written
from stream_detector.worker.summary import RunSummary
from stream_detector.worker.takeover import Takeover

__all__ = ["Delivery", "Ledger", "Tally"]

IDLE = 0.1  # seconds to wait for a first message; also how soon a stop is noticed
NAMED = 100  # features that are counted by name, which bounds a metric's labels
OTHERS = "(others)"
WATCHED = 1_024  # messages taken at once while some are refused, and each is sent in a batch of its own


@dataclass(slots=True)
class Tally:
    """Counts the dispositions of one transaction; they become the worker's once it is committed."""

    normal: int = 0
    flagged: int = 0
    dead_lettered: Counter[str] = field(default_factory=Counter)
    events: int = 0
    left_out: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome, events: int = 0, left_out: int = 0) -> None:
        """Counts a batch, the control events that it gave rise to, and the messages that could not be sent."""
        self.events += events
        self.left_out += left_out
        self.normal += outcome.normal
        self.flagged += len(outcome.alerts)
        self.read += outcome.read
        self.dead_lettered.update(letter.reason for letter in outcome.dead_letters)
        for judged in outcome.judged:
            for name, rows in judged.missing.items():
                self.missing[name] += len(rows)

    def merge(self, other: "Tally") -> None:
        """Counts another tally in."""
        self.normal += other.normal
        self.flagged += other.flagged
        self.dead_lettered.update(other.dead_lettered)
        self.events += other.events
        self.left_out += other.left_out
        self.read += other.read
        for name, count in other.missing.items():
            self.missing[name if name in self.missing or len(self.missing) < NAMED else OTHERS] += count

    @property
    def records(self) -> int:
        """How many records are counted."""
        return self.normal + self.flagged + self.dead_lettered.total()


class Ledger:
    """Counts what is committed, beside the open transaction and one in doubt, of which only the broker knows."""

    def __init__(self) -> None:
        self.open, self.done = Tally(), Tally()
        self.commits = self.aborts = 0
        self._doubt: tuple[Mapping[TopicPartition, int], Tally] | None = None

    def summary(self) -> RunSummary:
        """Sums up what is committed; the other fields are for others to fill in."""
        done = self.done
        return RunSummary(
            records=done.records,
            normal=done.normal,
            flagged=done.flagged,
            dead_lettered=dict(done.dead_lettered),
            commits=self.commits,
            aborts=self.aborts,
            control_events=done.events,
            missing=dict(done.missing),
        )

    def settle(self) -> None:
        """Counts the open transaction, which is committed."""
        self._count(self.open)
        self.open = Tally()

    def undo(self, offsets: Mapping[TopicPartition, int], *, in_doubt: bool) -> None:
        """Drops the open transaction, which was to commit these offsets; if it is `in_doubt` it may turn out to be committed."""
        if in_doubt and self.open.records:
            self._doubt = offsets, self.open
        self.aborts += 1
        self.open = Tally()

    @property
    def doubtful(self) -> list[TopicPartition]:
        """Which partitions the transaction in doubt had."""
        return list(self._doubt[0]) if self._doubt else []

    def resolve(self, held: Mapping[TopicPartition, int]) -> None:
        """Counts the transaction in doubt after all when its offsets turn out to be committed."""
        if self._doubt is None:
            return
        (offsets, tally), self._doubt = self._doubt, None
        if all(held.get(partition, -1) >= offset for partition, offset in offsets.items()):
            self.aborts -= 1
            self._count(tally)

    def _count(self, tally: Tally) -> None:
        self.commits += 1
        self.done.merge(tally)


class Delivery:
    """Commits what was taken of the consumer together with what was given to the producer, and goes back where that fails.

    The worker's thread lends it to another for a commit, and does not use it meanwhile: source and transaction raise
    `RuntimeError` where two threads do. Rebalances call back only inside `receive`, in the thread that called it.
    """

    def __init__(self, config: Config, source: Source, shadow: Shadow, health: Health) -> None:
        self.source, self.ledger = source, Ledger()
        self._assignment, self._shadow, self._health = source.assignment, shadow, health
        self._transaction = transaction(config, health, self._beside, lambda: self.output.batching)
        self.output = TransactionalOutput(self._transaction, config.topics, source.starts.ids)
        self.takeover = Takeover(self._transaction, self.output, source, written(config), self._failed)
        self.retry = Retry.of(config.worker, "committing", health)
        self._interval = config.worker.commit_interval_ms / 1000
        self._subject = f"transactional id {transactional_id(config.kafka)!r}, group {config.kafka.group_id!r}"
        self._urgent = False

    def subscribe(self) -> None:
        """Joins the group: what was taken is committed before partitions are revoked, and aborted when they are lost."""
        self.source.subscribe(on_revoke=self.commit, on_lost=self.abandon)

    def receive(self, limit: int, wait: float | None = None) -> Received:
        """Receives the next messages, at most `limit`; waits `wait` seconds for the first, by default until a commit may be due."""
        received = self.source.receive(limit, self._wait() if wait is None else wait)
        if received.lost:
            self.commit()
            self.source.rewind(received.lost)
        return received

    def take(self, received: Received) -> Arrivals:
        """Takes what is still to be judged of received messages; if there is any, the transaction is open then."""
        if self._transaction.state is State.READY:  # its connections may have been cut while it waited for these
            self._transaction.poll()
            self._recover()
        messages = self._assignment.take(received)
        if messages:
            self._begin()
        return messages

    def count(self, outcome: Outcome, events: int, left_out: int) -> None:
        """Counts a batch whose messages are in the open transaction; an alert is committed at once."""
        self.ledger.open.add(outcome, events, left_out)
        self._urgent = self._urgent or bool(outcome.alerts)

    def is_due(self) -> bool:
        """Whether to commit now: at the commit interval, at once when there is an alert. A transaction is open then."""
        if not self._assignment.pending():
            return False
        self._begin()
        return self._urgent or self._transaction.state is not State.OPEN or self._transaction.age >= self._interval

    def commit(self) -> None:
        """Ends the transaction with the offsets of all that was taken; goes back to its start if that fails."""
        offsets = self._assignment.pending()
        if not offsets:
            self._transaction.abort()
            return
        self._begin()
        if self._transaction.commit(offsets, self.source.membership):
            self._committed(offsets)
        else:
            self._undo(offsets)
            self._failed()

    def abandon(self) -> None:
        """Drops the open transaction and goes back to its start."""
        self._transaction.abort()
        self._undo(self._assignment.pending())

    def recover(self, ids: TopicIds) -> None:
        """Replaces a producer in doubt, then restores partitions; `ids` are those of the topics, as seen last."""
        self._transaction.poll()
        self.source.learn_ids(ids)
        self._rewind_recreated()
        self._recover()

    def rebase(self, judge: Judge, known: Mapping[TopicPartition, CaughtUp]) -> None:
        """Goes on with another model, between two transactions, with thresholds as if that model had always served.

        `known` are thresholds prepared for it. A partition whose messages are not at hand is restored from the log.
        """
        if self._transaction.state is State.OPEN:
            self.commit()
        self.source.rewind(self._assignment.rebase(judge, known))

    def close(self) -> None:
        """Leaves the group. What was taken and is not committed is dropped first, so that the last callback finds nothing."""
        self._assignment.drop(self._assignment.owned)
        try:
            self.source.close()
        finally:
            self._transaction.close()

    def _beside(self, place: TopicPartition) -> str:
        """Says what stands beside a partition's offset: the topic's id, and the figures of the context that is met there."""
        context = self._assignment.context(place)
        return offset_metadata(self.source.starts.ids.get(place[0]), tuple(context.figures.items()) if context else ())

    def _wait(self) -> float:
        """Says how long a receive may wait for a first message, seconds."""
        if self._transaction.state is State.OPEN:
            return min(IDLE, max(0.0, self._interval - self._transaction.age))
        failing = self.retry.failing or self.source.retry.failing
        return 0.0 if self._assignment.restoring and not failing else IDLE

    def _begin(self) -> None:
        if self._transaction.state is State.READY:
            self._transaction.begin()

    def _committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._assignment.commit(offsets)
        self.ledger.settle()
        self._shadow.settle()
        self._urgent = False
        self._health.committed()
        self.output.settle()
        if self.retry.failing:
            self.retry.succeeded()

    def _undo(self, offsets: dict[TopicPartition, int]) -> None:
        """Has what was taken read again; if the outcome is in doubt, the broker will tell from where."""
        self.ledger.undo(offsets, in_doubt=self._transaction.state is State.DOUBTFUL)
        self._urgent = False
        self._shadow.drop()
        self.source.rewind(offsets)

    def _recover(self) -> None:
        if self.retry.failing and self.retry.waiting:
            return
        retired = self._transaction.retire()
        if self._transaction.state is State.DOUBTFUL and not self.takeover.replace(retired=retired):
            return
        self._resolve_doubt()
        if self.takeover.swept or self.takeover.sweep():
            self.source.restore()
            self._rewind_recreated()

    def _rewind_recreated(self) -> None:
        """Rewinds topics that were created anew, before an offset of the old one is committed for the new."""
        if recreated := self.source.take_recreated():
            self.abandon()
            self.source.rewind(recreated)

    def _resolve_doubt(self) -> None:
        """Asks the broker what became of a transaction in doubt; when it does not tell, the next turn asks again."""
        if self.ledger.doubtful:
            with suppress(KafkaException):
                self.ledger.resolve(self.source.committed(self.ledger.doubtful))
            self._health.beat()

    def _failed(self) -> None:
        """Tries other forms of refused messages at once; else says why there was no commit, and waits a little longer."""
        if self.output.adapt():
            self._assignment.judge.take_at_most(WATCHED)
            return
        fault = self._transaction.fault
        subject = ", ".join(filter(None, (self._subject, self.output.subject)))
        self.retry.failed(
            explained(fault, subject) if fault else KafkaError(f"{subject}: not a member of the group now")
        )
