"""The worker: telemetry in, alerts and dead letters out, offsets with them, in one transaction.

One thread owns the consumer and the producer, and lends the producer to another for a commit while it
decodes. Rebalances interrupt it only inside `receive`.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import structlog
from confluent_kafka import KafkaException

from stream_detector.config import Config
from stream_detector.detector import Outcome
from stream_detector.errors import KafkaError, StreamDetectorError
from stream_detector.kafka import topics
from stream_detector.kafka.assignment import Partition
from stream_detector.kafka.batch import Batch
from stream_detector.kafka.clients import require_broker, slot, transactional_id, transactional_producer
from stream_detector.kafka.drift_watch import DriftWatch
from stream_detector.kafka.faults import explained
from stream_detector.kafka.goal import Goal
from stream_detector.kafka.heap import settled_heap
from stream_detector.kafka.history import History
from stream_detector.kafka.judge import Judge
from stream_detector.kafka.outbox import Outbox
from stream_detector.kafka.patience import Patience
from stream_detector.kafka.refusals import Refusals
from stream_detector.kafka.serving import ModelSource, await_model, published
from stream_detector.kafka.shadow import Shadow
from stream_detector.kafka.source import Source
from stream_detector.kafka.succession import Succession
from stream_detector.kafka.summary import Observer, RunSummary, Stalls, Tally
from stream_detector.kafka.switching import quick_switching
from stream_detector.kafka.transaction import State, Transaction
from stream_detector.model import DetectorModel
from stream_detector.records import Arrivals

__all__ = ["run"]

IDLE = 0.1  # seconds to wait for a first message; also how soon a stop is noticed
AHEAD = 2  # full batches that are received and not judged: one is being scored, and another is next
REPORT = 1.0  # seconds between two reports

log = structlog.get_logger(__name__)


def run(
    config: Config,
    model_source: ModelSource | None = None,
    *,
    until_end: bool = False,
    stop: Event | None = None,
    observer: Observer | None = None,
) -> RunSummary:
    """Detects anomalies until `stop` is set, or every offset that existed at the start is committed.

    The model comes from the models topic unless `model_source` says otherwise; without one, waits.
    `observer` is told the summary about once a second. Raises a `KafkaError` or `ModelError` when
    it cannot go on; what was not committed then is left to the next run.
    """
    stop = stop or Event()
    require_broker(config.kafka)
    topics.require(config.kafka, (*config.topics.telemetry, *_written(config)))
    refusals = Refusals()
    model = await_model(model_source or published(config, refusals), config, stop)
    if model is None:
        return RunSummary()
    with settled_heap(), quick_switching():
        worker = Worker(config, model, observer, refusals, follow=model_source is None)
        return worker.work(stop, until_end=until_end)


class Worker:
    """One member of the group, with one model at a time; with `follow`, the one that the pointer names."""

    def __init__(
        self, config: Config, model: DetectorModel, observer: Observer | None, refusals: Refusals, *, follow: bool
    ) -> None:
        worker = config.worker
        self._observer, self._refusals = observer, refusals
        self._interval = worker.commit_interval_ms / 1000
        self._timeout = worker.transaction_timeout_ms / 1000
        self._judge = Judge(model, config)
        self._transaction = Transaction(
            lambda on_error, on_stats: transactional_producer(config, on_error=on_error, on_stats=on_stats),
            self._timeout,
            slot(config.kafka),
        )
        self._outbox = Outbox(self._transaction, config.topics)
        history = History(config.threshold.window) if follow else None
        self._succession = Succession(config, model.version, history, refusals) if history else None
        self._source = Source(config, self._judge, self._commit, self._abandon, history)
        self._drift = DriftWatch(config.drift)
        self._shadow = Shadow(config, self._source.assignment.history)
        self._patience = Patience("committing", worker.unavailable_timeout_ms / 1000)
        self._subject = f"transactional id {transactional_id(config.kafka)!r}, group {config.kafka.group_id!r}"
        self._config = config
        self._tally, self._done = Tally(), Tally()
        self._in_doubt: tuple[dict[Partition, int], Tally] | None = None
        self._ahead: deque[Batch] = deque()
        self._committing = ThreadPoolExecutor(1, "committing")  # begins with the first thing that is submitted
        self._urgent = self._slow = self._swept = False
        self._commits = self._aborts = self._producers = self._swaps = 0
        self._stalls = Stalls()
        self._reported_at = 0.0
        self._full_at: float | None = None

    def work(self, stop: Event, *, until_end: bool) -> RunSummary:
        """The loop, from joining the group to leaving it."""
        goal = self._goal() if until_end else None
        try:
            if self._succession:
                self._succession.start()
            self._source.subscribe()
            while not (stop.is_set() or (goal and goal.is_reached())):
                self._transaction.attend()
                self._recover()
                self._change_model()
                self._go_on(Batch(self._source.receive(self._judge.limit, self._wait()), self._judge))
                self._report(REPORT)
            self._commit()
        finally:
            self._close()
        return self.summary()

    def summary(self) -> RunSummary:
        """What is committed so far."""
        source, thresholds = self._source, self._source.assignment.thresholds
        return RunSummary(
            records=self._done.records,
            normal=self._done.normal,
            flagged=self._done.flagged,
            dead_lettered=dict(self._done.dead_lettered),
            commits=self._commits,
            aborts=self._aborts,
            recreations=max(0, self._producers - 1),
            restores=source.restores,
            rebalances=source.rebalances,
            offsets_lost=source.offsets_lost,
            lag=source.lag(),
            partitions=len(thresholds),
            warming=sum(threshold.current().warming for threshold in thresholds.values()),
            model=self._judge.model.version,
            control_events=self._done.events,
            swaps=self._swaps,
            models_refused=len(self._refusals),
            swap_stalls=self._stalls,
        )

    def _change_model(self) -> None:
        """Goes on with the next model once it is ready, between two transactions; and with the next candidate."""
        succession = self._succession
        if succession is None:
            return
        for candidate in succession.take_shadows():
            self._shadow.change(candidate)
        if succession.is_ready:
            self._swap(succession)

    def _swap(self, succession: Succession) -> None:
        started = time.monotonic()
        if self._transaction.state is State.OPEN:
            self._commit()
        candidate = succession.take()
        if candidate is None:
            return
        previous, self._judge = self._judge.model.version, candidate.judge
        self._source.succeed(candidate)
        if self._shadow.version == self._judge.model.version:
            self._shadow.change(None)
        stall = time.monotonic() - started
        self._swaps += 1
        self._stalls = self._stalls.plus(stall)
        log.info("model", version=candidate.judge.model.version, previous=previous, stall_ms=round(1000 * stall, 1))

    def _recover(self) -> None:
        """A producer in doubt is replaced, then partitions without a start are given one."""
        if self._patience.waiting:
            return
        if self._transaction.state is State.DOUBTFUL:
            self._source.displace(self._source.assignment.placed)
            if not self._transaction.take_over():
                self._failed()
                return
            self._producers += 1
            self._swept = False
        self._resolve_doubt()
        if self._sweep():
            self._source.place_next()

    def _sweep(self) -> bool:
        """Makes sure that nothing is left of producers before this one, once by each; whether nothing is."""
        unplaced = self._source.assignment.unplaced
        if not self._swept and unplaced:
            self._swept = self._outbox.sweep(_written(self._config), {unplaced[0]: 0}, self._source.membership)
            if not self._swept:
                self._failed()
        return self._swept

    def _wait(self) -> float:
        """How long the next receive may wait for a first message."""
        if self._ahead:
            return 0.0
        if self._transaction.state is State.OPEN:
            return min(IDLE, max(0.0, self._interval - self._transaction.age))
        trouble = self._patience.troubled or self._source.patience.troubled
        return 0.0 if self._source.assignment.unplaced and not trouble else IDLE

    def _go_on(self, batch: Batch) -> None:
        """Judges and commits what is ahead of this batch, then the batch; full ones wait, so that scoring never does."""
        self._ahead.append(batch)
        self._heed_turn(time.monotonic() if batch.full else None)
        if not batch.full:
            while self._ahead:
                self._process(self._ahead.popleft())
            if self._is_due():
                self._commit()
            return
        if len(self._ahead) > AHEAD:
            self._process(self._ahead.popleft())
        self._commit_beside(batch.begin)

    def _commit_beside(self, work: Callable[[], None]) -> None:
        """Commits, if it is time, while this thread works on what neither the transaction nor the assignment sees."""
        committing = self._committing.submit(self._commit) if self._is_due() else None
        try:
            work()
        finally:
            if committing:
                committing.result()

    def _process(self, batch: Batch) -> None:
        """Judges a batch and puts what it gives into the transaction, which begins with it."""
        messages = self._source.assignment.take(batch.held)
        if not messages:
            return
        self._begin()
        started = time.monotonic()
        begun = batch.begun_by(self._judge, messages)
        outcome = self._judge.judge(messages, self._source.assignment.thresholds, begun)
        if outcome is None or not self._hand_on(messages, outcome):
            self._abandon()
            return
        self._heed_pace(time.monotonic() - started, len(messages))

    def _hand_on(self, messages: Arrivals, outcome: Outcome) -> bool:
        """Puts what a batch gives into the transaction; False when a record makes that fail, which is set aside then."""
        try:
            if self._succession:
                self._shadow.judge(messages, outcome, self._judge.model.version)
                self._source.assignment.history.add(messages, self._source.assignment.thresholds)
            self._outbox.send(outcome)
            events = self._drift.events(outcome, self._source.assignment.thresholds, self._judge.model.version)
            self._outbox.report(events)
        except (StreamDetectorError, KafkaException):
            raise
        except Exception as error:  # noqa: BLE001 - whatever foreign bytes can make a step raise
            self._judge.isolate(messages, error)
            return False
        self._tally.add(outcome, len(events))
        self._urgent = self._urgent or bool(outcome.alerts)
        return True

    def _heed_pace(self, seconds: float, records: int) -> None:
        """Batches must be well within the transaction's time; one slow batch may be a frozen process, two are not."""
        slow = seconds > self._timeout / 2
        if slow and self._slow:
            self._judge.lower_limit(records)
        self._slow = slow

    def _heed_turn(self, now: float | None) -> None:
        """From one full batch to the next."""
        if now is not None and self._full_at is not None:
            self._judge.heed_turn(now - self._full_at)
        self._full_at = now

    def _begin(self) -> None:
        if self._transaction.state is State.READY:
            self._transaction.begin()

    def _is_due(self) -> bool:
        """Whether to commit now: at the commit interval, at once when there is an alert."""
        if not self._source.assignment.pending():
            return False
        self._begin()
        return self._urgent or self._transaction.state is not State.OPEN or self._transaction.age >= self._interval

    def _commit(self) -> None:
        """Ends the transaction with the offsets of all that was taken; goes back to its start if that fails."""
        offsets = self._source.assignment.pending()
        if not offsets:
            self._transaction.abort()
            return
        self._begin()
        if not self._transaction.commit(offsets, self._source.membership):
            self._undo(offsets)
            self._failed()
            return
        self._source.assignment.settle(offsets)
        self._count(self._tally)
        self._renew()
        self._patience.succeeded()

    def _abandon(self) -> None:
        """Drops the open transaction and goes back to its start."""
        self._transaction.abort()
        self._undo(self._source.assignment.pending())

    def _undo(self, offsets: dict[Partition, int]) -> None:
        """What was taken is to be read again; if the outcome is in doubt, the broker will tell from where."""
        if self._transaction.state is State.DOUBTFUL and self._tally.records:
            self._in_doubt = offsets, self._tally
        self._aborts += 1
        self._renew()
        self._source.displace(offsets)

    def _renew(self) -> None:
        self._tally = Tally()
        self._urgent = False
        self._shadow.drop()

    def _resolve_doubt(self) -> None:
        """Counts a transaction after all when its offsets turn out to be committed."""
        if self._in_doubt is None:
            return
        offsets, tally = self._in_doubt
        try:
            held = self._source.committed(offsets)
        except KafkaException:  # the next turn will tell
            return
        self._in_doubt = None
        if all(held.get(partition, -1) >= offset for partition, offset in offsets.items()):
            self._aborts -= 1
            self._count(tally)

    def _count(self, tally: Tally) -> None:
        self._commits += 1
        self._done.merge(tally)
        self._shadow.settle()

    def _failed(self) -> None:
        """Reports why there was no commit, and waits a little longer each time."""
        fault = self._transaction.fault
        subject = ", ".join((self._subject, *map(repr, self._outbox.used)))
        self._patience.failed(
            explained(fault, subject) if fault else KafkaError(f"{subject}: not a member of the group now")
        )

    def _report(self, interval: float) -> None:
        now = time.monotonic()
        if now - self._reported_at < interval:
            return
        self._reported_at = now
        if self._observer:
            self._observer.observe(self.summary())
        self._shadow.send()

    def _close(self) -> None:
        """Leaves the group; what was taken and is not committed is nobody's, least of all for the last callback."""
        self._committing.shutdown()
        assignment = self._source.assignment
        assignment.drop((*assignment.placed, *assignment.unplaced))
        try:
            self._shadow.close()
            if self._succession:
                self._succession.close()
            self._source.close()
        finally:
            self._transaction.close()

    def _goal(self) -> Goal:
        marks = topics.watermarks(self._config.kafka, self._config.topics.telemetry)
        return Goal(marks, self._source.committed, self._source.assignment.following)


def _written(config: Config) -> tuple[str, ...]:
    """The topics that a worker writes to."""
    return config.topics.alerts, config.topics.dead_letters, *((config.topics.control,) * config.drift.enabled)
