"""Batches on their way through the worker: received, decoded and scored ahead, judged, put into the transaction.

A batch that is at least half full shows that there is more: it is decoded while an earlier one is being committed, and
scored while others are received and judged. Any other is judged at once, after those that wait. What changes in a
partition, drift or a change of regime, goes to the control topic with the batch that shows it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
import structlog
from confluent_kafka import KafkaException
from numpy.typing import NDArray

from stream_detector.absence import within
from stream_detector.config import Config, DriftConfig
from stream_detector.detector import Begun, Judged, Outcome
from stream_detector.drift import Deviations, Monitor, Notice
from stream_detector.errors import StreamDetectorError
from stream_detector.health import Health
from stream_detector.model import DetectorModel
from stream_detector.records import Arrivals, Message, TopicPartition
from stream_detector.records.control_events import ControlEvent
from stream_detector.worker.delivery import Delivery
from stream_detector.worker.judge import Judge
from stream_detector.worker.partitions.assignment import Assignment, OwnedPartition, Received
from stream_detector.worker.shadow import Shadow

__all__ = ["DriftWatch", "Pipeline"]

REGIME = frozenset({"pattern", "unseen", "dead-letters"})  # the other detectors notice drift
DEVIATIONS = frozenset({"missing", "unseen", "dead-letters"})
AHEAD = 2  # full batches that are received and not judged: one is being scored, and another is next

log = structlog.get_logger(__name__)


class Batch:
    """Messages that were received but not taken yet; `full` if they are at least half of what the judge takes at once.

    With large records the client keeps fewer ready than the judge takes; half of that still is a backlog.
    """

    def __init__(self, received: Received, judge: Judge) -> None:
        self.received = received
        self.full = 2 * len(received.messages) >= judge.limit
        self._begun: Begun | None = None

    def begin(self, judge: Judge) -> None:
        """Decodes it and has it scored; one that fails here fails again where it is judged, and is dealt with there."""
        with suppress(Exception):
            self._begun = judge.begin(self.received.messages)

    def begun_by(self, judge: Judge, taken: Sequence[Message]) -> Begun | None:
        """Returns what was begun, if it was with this judge's model and all its messages were taken."""
        begun = self._begun
        return begun if begun and begun.model is judge.model and len(taken) == len(self.received.messages) else None


class Pace:
    """Watches how long batches take: they must be well within the transaction's time, `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._slow = False
        self._full_at: float | None = None

    def judged(self, judge: Judge, seconds: float, records: int) -> None:
        """Lowers the judge's limit after two slow batches in a row; a single one may be a frozen process."""
        slow = seconds > self._timeout / 2
        if slow and self._slow:
            judge.lower_limit(records)
        self._slow = slow

    def turned(self, judge: Judge, *, full: bool) -> None:
        """Tells the judge's limit how long it took from one full batch to the next."""
        now = time.monotonic() if full else None
        if now is not None and self._full_at is not None:
            judge.batch_limit.lasted(now - self._full_at)
        self._full_at = now


class Pipeline:
    """Takes batches in order; full ones wait, so that scoring never does."""

    def __init__(
        self, config: Config, assignment: Assignment, delivery: Delivery, shadow: Shadow, health: Health
    ) -> None:
        self._assignment, self._delivery, self._shadow, self._health = assignment, delivery, shadow, health
        self._drift = DriftWatch(config.drift)
        self._pace = Pace(config.worker.transaction_timeout_ms / 1000)
        self._ahead: deque[Batch] = deque()
        self._committing = ThreadPoolExecutor(1, "committing")  # begins with the first thing that is submitted

    def feed(self) -> None:
        """Receives a batch, and judges and commits what is due."""
        judge = self._assignment.judge
        batch = Batch(self._delivery.receive(judge.limit, 0.0 if self._ahead else None), judge)
        self._ahead.append(batch)
        self._pace.turned(judge, full=batch.full)
        if not batch.full:
            while self._ahead:
                self._process(self._ahead.popleft())
            if self._delivery.is_due():
                self._delivery.commit()
            return
        if len(self._ahead) > AHEAD:
            self._process(self._ahead.popleft())
        self._commit_beside(lambda: batch.begin(judge))

    def close(self) -> None:
        """Waits for the last commit."""
        self._committing.shutdown()

    def _commit_beside(self, work: Callable[[], None]) -> None:
        """Commits, if it is time, in a thread that the delivery is lent to; this one works on what that does not see."""
        committing = self._committing.submit(self._delivery.commit) if self._delivery.is_due() else None
        try:
            work()
        finally:
            if committing:
                committing.result()

    def _process(self, batch: Batch) -> None:
        """Judges a batch and puts what it gives into the transaction, which begins with it."""
        messages = self._delivery.take(batch.received)
        if not messages:
            return
        started, judge = time.monotonic(), self._assignment.judge
        begun = batch.begun_by(judge, messages)
        outcome = judge.judge(
            messages, self._assignment.thresholds, begun, self._health.beat, self._assignment.contexts
        )
        if outcome is None or not self._hand_on(messages, outcome, judge):
            self._delivery.abandon()
            return
        self._pace.judged(judge, time.monotonic() - started, len(messages))

    def _hand_on(self, messages: Arrivals, outcome: Outcome, judge: Judge) -> bool:
        """Puts what a batch gives into the transaction; False when a record makes that fail, which is set aside then."""
        output = self._delivery.output
        try:
            if self._shadow.candidate:
                self._shadow.judge(messages, outcome, judge.model.version)
            self._assignment.remember(messages)
            left_out = output.send(outcome)
            events = self._drift.events(outcome, self._assignment, judge.model)
            left_out += output.report(events)
        except (StreamDetectorError, KafkaException):
            raise
        except Exception as error:  # noqa: BLE001 - whatever foreign bytes can make a step raise
            judge.isolate(messages, error)
            return False
        self._delivery.count(outcome, len(events), left_out)
        return True


class DriftWatch:
    """Watches every partition, by a monitor and counts that the partition holds."""

    def __init__(self, config: DriftConfig) -> None:
        self._config = config

    def events(self, outcome: Outcome, assignment: Assignment, model: DetectorModel) -> list[ControlEvent]:
        """Finds what is new in a batch that the partitions' thresholds have just judged under this model."""
        if not self._config.enabled:
            return []
        return [
            _event(notice, partition, model.version)
            for partition, notices in self._noticed(outcome, assignment, model)
            for notice in notices
        ]

    def _noticed(
        self, outcome: Outcome, assignment: Assignment, model: DetectorModel
    ) -> Iterator[tuple[TopicPartition, list[Notice]]]:
        for judged in outcome.judged:
            for partition, rows in judged.runs:
                monitor, deviations = self._of(assignment[partition], model)
                yield partition, deviations.take(*_deviating(judged, rows, model))
                offsets = judged.offsets[rows]
                first, last = int(offsets[0]), int(offsets[-1])
                alerts = [
                    a for a in outcome.alerts if (a.topic, a.partition) == partition and first <= a.offset <= last
                ]
                scores, residuals = judged.scores.anomaly[rows], judged.scores.inversion[rows]
                yield partition, monitor.update(offsets, scores, residuals, alerts)
        for partition, letters in _letters(outcome).items():
            yield partition, self._of(assignment[partition], model)[1].bury(letters)

    def _of(self, owned: OwnedPartition, model: DetectorModel) -> tuple[Monitor, Deviations]:
        """Returns what watches a partition; it is made with the first batch after its threshold."""
        owned.drift = owned.drift or Monitor(self._config)
        if owned.deviations is None:
            usual = dict(zip(model.schema.names, model.missing_shares.tolist(), strict=True))
            owned.deviations = Deviations(self._config, usual)
        return owned.drift, owned.deviations


def _deviating(
    judged: Judged, rows: slice, model: DetectorModel
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """Finds a run's offsets, and by feature which of its rows lack it, or have a category never seen."""
    missing = {name: among[within(among, rows)] - rows.start for name, among in judged.missing.items()}
    unseen = {model.schema.names[at]: among[within(among, rows)] - rows.start for at, among in judged.unseen.items()}
    return judged.offsets[rows], missing, unseen


def _letters(outcome: Outcome) -> dict[TopicPartition, dict[str, NDArray[np.int64]]]:
    """Sorts the offsets of dead letters, ascending, by partition and reason."""
    found: dict[TopicPartition, dict[str, list[int]]] = {}
    for letter in outcome.dead_letters:
        found.setdefault((letter.topic, letter.partition), {}).setdefault(letter.reason, []).append(letter.offset)
    return {
        partition: {reason: np.array(sorted(offsets), dtype=np.int64) for reason, offsets in reasons.items()}
        for partition, reasons in found.items()
    }


def _event(notice: Notice, partition: TopicPartition, model: str) -> ControlEvent:
    topic, number = partition
    kind = "regime-change" if notice.detector in REGIME else "drift"
    event = ControlEvent(
        kind=kind,  # type: ignore[arg-type]
        id=f"{notice.detector if notice.detector in DEVIATIONS else kind}-{topic}-{number}-{notice.offset}",
        topic=topic,
        partition=number,
        offset=notice.offset,
        detector=notice.detector,
        stream=notice.stream,
        model=model,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        features=notice.features,
    )
    tell = log.warning if notice.detector in DEVIATIONS else log.info
    tell("noticed", **{key: getattr(event, key) for key in ("kind", "record", "detector", "stream", "features")})
    return event
