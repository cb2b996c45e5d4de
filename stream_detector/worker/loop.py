"""The worker: telemetry in, alerts and dead letters out, offsets with them, in one transaction.

One thread owns the consumer and the producer, and lends the producer to another for a commit while it
decodes. Rebalances interrupt it only inside `receive`.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Event

import structlog
from confluent_kafka import KafkaException

from stream_detector.config import Config
from stream_detector.detector import Outcome
from stream_detector.errors import KafkaError, StreamDetectorError
from stream_detector.health import Health
from stream_detector.kafka.clients import transactional_id
from stream_detector.kafka.faults import explained
from stream_detector.kafka.retry import Patience
from stream_detector.model import DetectorModel
from stream_detector.records import Arrivals, TopicPartition
from stream_detector.registry.admission import ModelSource, Refusals, await_model, published
from stream_detector.worker.batch import Batch, Pace
from stream_detector.worker.drift_watch import DriftWatch
from stream_detector.worker.interpreter import settled_heap
from stream_detector.worker.judge import Judge
from stream_detector.worker.model_swap import Succession
from stream_detector.worker.output.states import State
from stream_detector.worker.output.takeover import Takeover
from stream_detector.worker.output.transactional_output import TransactionalOutput
from stream_detector.worker.partitions.history import History
from stream_detector.worker.shadow import Shadow
from stream_detector.worker.source import Source
from stream_detector.worker.starting import await_topics, transaction, written
from stream_detector.worker.summary import Ledger, Observer, RunSummary, Stalls
from stream_detector.worker.switching import quick_switching
from stream_detector.worker.until_end import Goal
from stream_detector.worker.watch import Watch

__all__ = ["run"]

IDLE = 0.1  # seconds to wait for a first message; also how soon a stop is noticed
AHEAD = 2  # full batches that are received and not judged: one is being scored, and another is next
WATCHED = 1_024  # messages taken at once while some are refused, and each is sent in a batch of its own
REPORT = 1.0  # seconds between two reports

log = structlog.get_logger(__name__)


def run(
    config: Config,
    model_source: ModelSource | None = None,
    *,
    until_end: bool = False,
    stop: Event | None = None,
    observer: Observer | None = None,
    health: Health | None = None,
) -> RunSummary:
    """Detects anomalies until `stop` is set, or every offset that existed at the start is committed.

    The model comes from the models topic unless `model_source` says otherwise. Broker, topics and model
    are each waited for, for `worker.unavailable_timeout_ms`. `observer` is told the summary about once
    a second, `health` what goes on. Raises a `KafkaError` or `ModelError` when it cannot go on; what
    was not committed then is left to the next run.
    """
    stop, health, refusals = stop or Event(), health or Health(), Refusals()
    source = model_source or published(config, refusals)
    try:
        with Watch(config, written(config), health) as watch, settled_heap(), quick_switching():
            if not await_topics(config, health, stop) or (model := await_model(source, config, stop, health)) is None:
                return RunSummary()
            follows = None if model_source else refusals
            return Worker(config, model, observer, watch, follows).work(stop, until_end=until_end)
    finally:
        health.ended()


class Worker:
    """One member of the group, with one model at a time; with `refusals`, the one that the pointer names."""

    def __init__(
        self, config: Config, model: DetectorModel, observer: Observer | None, watch: Watch, refusals: Refusals | None
    ) -> None:
        health = watch.health
        self._observer, self._watch, self._health = observer, watch, health
        self._refusals = Refusals() if refusals is None else refusals
        self._interval = config.worker.commit_interval_ms / 1000
        self._judge = Judge(model, config)
        topic_ids: dict[str, str] = {}
        self._transaction = transaction(config, health, topic_ids, lambda: self._output.batching)
        self._output = TransactionalOutput(self._transaction, config.topics, topic_ids)
        history = None if refusals is None else History(config.threshold.window)
        self._succession = Succession(config, model.version, history, self._refusals) if history else None
        self._source = Source(config, self._judge, self._commit, self._abandon, history, health, topic_ids)
        self._takeover = Takeover(self._transaction, self._output, self._source, written(config), self._failed)
        self._drift = DriftWatch(config.drift)
        self._shadow = Shadow(config, self._source.assignment.history, health.beat)
        self._patience = Patience.of(config.worker, "committing", health)
        self._subject = f"transactional id {transactional_id(config.kafka)!r}, group {config.kafka.group_id!r}"
        self._config, self._ledger = config, Ledger()
        self._ahead: deque[Batch] = deque()
        self._committing = ThreadPoolExecutor(1, "committing")  # begins with the first thing that is submitted
        self._urgent = False
        self._stalls, self._reported_at = Stalls(), 0.0
        self._pace = Pace(config.worker.transaction_timeout_ms / 1000)

    def work(self, stop: Event, *, until_end: bool) -> RunSummary:
        """The loop, from joining the group to leaving it."""
        try:
            goal = self._patience.insist(lambda: Goal.of(self._config, self._source), stop) if until_end else None
            if self._succession:
                self._succession.start()
            self._patience.insist(self._source.subscribe, stop)
            self._source.tell()
            self._health.began()
            while not (stop.is_set() or (goal and goal.is_reached())):
                self._health.beat()
                self._transaction.poll()
                self._source.heed(self._watch.ids)
                self._recover()
                self._change_model()
                self._go_on(Batch(self._source.receive(self._judge.limit, self._wait()), self._judge))
                self._report()
            self._commit()
        finally:
            self._close()
        return self.summary()

    def summary(self) -> RunSummary:
        """What is committed so far."""
        source, thresholds = self._source, self._source.assignment.thresholds
        return replace(
            self._ledger.summary(),
            recreations=max(0, self._takeover.made - 1),
            restores=source.restores,
            rebalances=source.rebalances,
            offsets_lost=source.starts.offsets_lost,
            topics_recreated=source.starts.recreated,
            lag=source.lag(),
            partitions=len(thresholds),
            warming=sum(threshold.current().warming for threshold in thresholds.values()),
            model=self._judge.model.version,
            outputs_left_out=self._ledger.done.left_out + self._shadow.left_out,
            swaps=sum(self._stalls.counts),
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
        self._stalls = self._stalls.plus(stall)
        log.info("model", version=candidate.judge.model.version, previous=previous, stall_ms=round(1000 * stall, 1))

    def _recover(self) -> None:
        """A producer in doubt is replaced, then partitions without a start are given one."""
        if self._patience.waiting or not self._takeover.replace():
            return
        self._resolve_doubt()
        if self._takeover.sweep():
            self._source.place()

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
        self._pace.turned(self._judge, full=batch.full)
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
        if self._transaction.state is State.READY:  # whose connections may have been cut while it waited for these
            self._transaction.poll()
            self._recover()
        if not (messages := self._source.assignment.take(batch.held)):
            return
        self._begin()
        started = time.monotonic()
        begun = batch.begun_by(self._judge, messages)
        outcome = self._judge.judge(messages, self._source.assignment.thresholds, begun, self._health.beat)
        if outcome is None or not self._hand_on(messages, outcome):
            self._abandon()
            return
        self._pace.judged(self._judge, time.monotonic() - started, len(messages))

    def _hand_on(self, messages: Arrivals, outcome: Outcome) -> bool:
        """Puts what a batch gives into the transaction; False when a record makes that fail, which is set aside then."""
        try:
            if self._succession:
                self._shadow.judge(messages, outcome, self._judge.model.version)
                self._source.assignment.history.add(messages, self._source.assignment.thresholds)
            left_out = self._output.send(outcome)
            events = self._drift.events(outcome, self._source.assignment.thresholds, self._judge.model)
            left_out += self._output.report(events)
        except (StreamDetectorError, KafkaException):
            raise
        except Exception as error:  # noqa: BLE001 - whatever foreign bytes can make a step raise
            self._judge.isolate(messages, error)
            return False
        self._ledger.open.add(outcome, len(events), left_out)
        self._urgent = self._urgent or bool(outcome.alerts)
        return True

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
        self._ledger.settle()
        self._shadow.settle()
        self._urgent = False
        self._health.committed()
        self._output.settle()
        self._patience.succeeded()

    def _abandon(self) -> None:
        """Drops the open transaction and goes back to its start."""
        self._transaction.abort()
        self._undo(self._source.assignment.pending())

    def _undo(self, offsets: dict[TopicPartition, int]) -> None:
        """What was taken is to be read again; if the outcome is in doubt, the broker will tell from where."""
        self._ledger.undo(offsets, in_doubt=self._transaction.state is State.DOUBTFUL)
        self._urgent = False
        self._shadow.drop()
        self._source.displace(offsets)

    def _resolve_doubt(self) -> None:
        """Asks the broker what became of a transaction in doubt; when it does not tell, the next turn asks again."""
        if self._ledger.doubtful:
            with suppress(KafkaException):
                self._ledger.resolve(self._source.committed(self._ledger.doubtful))
            self._health.beat()

    def _failed(self) -> None:
        """Tries other forms of refused messages at once; else says why there was no commit, and waits a little longer."""
        if self._output.adapt():
            self._judge.take_at_most(WATCHED)
            return
        fault = self._transaction.fault
        subject = ", ".join(filter(None, (self._subject, self._output.subject)))
        self._patience.failed(
            explained(fault, subject) if fault else KafkaError(f"{subject}: not a member of the group now")
        )

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported_at < REPORT:
            return
        self._reported_at = now
        self._source.tell()
        self._health.remark("model", self._refusals.standing)
        self._health.remark("pointer", self._succession.trouble if self._succession else None)
        if self._observer:
            self._observer.observe(self.summary())
        self._shadow.send()

    def _close(self) -> None:
        """Leaves the group; what was taken and is not committed is nobody's, least of all for the last callback."""
        self._committing.shutdown()
        self._source.assignment.drop(self._source.assignment.owned)
        try:
            self._shadow.close()
            if self._succession:
                self._succession.close()
            self._source.close()
        finally:
            self._transaction.close()
