"""The worker: telemetry in, alerts and dead letters out, offsets with them, in one transaction.

One thread runs the loop. It lends consumer and producer to another thread for a commit while it decodes, and does not
touch them meanwhile. Rebalances interrupt it only where it receives.
"""

import time
from threading import Event

import structlog

from stream_detector.config import Config
from stream_detector.health import Health
from stream_detector.model import DetectorModel
from stream_detector.registry.admission import ModelSource, Refusals, await_model, published
from stream_detector.worker.delivery import Delivery
from stream_detector.worker.interpreter import frozen_gc, short_switch_interval
from stream_detector.worker.judge import Judge
from stream_detector.worker.model_swap import Candidate, ModelFollower
from stream_detector.worker.partitions.assignment import Assignment
from stream_detector.worker.pipeline import Pipeline
from stream_detector.worker.reporting import Reporting
from stream_detector.worker.shadow import Shadow
from stream_detector.worker.source import Source
from stream_detector.worker.starting import await_topics, written
from stream_detector.worker.summary import Observer, RunSummary
from stream_detector.worker.until_end import UntilEnd
from stream_detector.worker.watch import TopicWatch

__all__ = ["run"]

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
        with TopicWatch(config, written(config), health) as watch, frozen_gc(), short_switch_interval():
            if not await_topics(config, health, stop) or (model := await_model(source, config, stop, health)) is None:
                return RunSummary()
            worker = Worker(config, model, observer, watch, refusals, follows=model_source is None)
            return worker.work(stop, until_end=until_end)
    finally:
        health.ended()


class Worker:
    """One member of the group, with one model at a time: if it `follows`, the one that the pointer names."""

    def __init__(
        self,
        config: Config,
        model: DetectorModel,
        observer: Observer | None,
        watch: TopicWatch,
        refusals: Refusals,
        *,
        follows: bool,
    ) -> None:
        self._config, self._watch, self._health = config, watch, watch.health
        self._assignment = Assignment(Judge(model, config), config.threshold.window if follows else 0)
        self._follower = ModelFollower(config, self._assignment, refusals) if follows else None
        self._shadow = Shadow(config, self._assignment, self._health.beat)
        self._source = Source(config, self._assignment, self._health)
        self._delivery = Delivery(config, self._source, self._shadow, self._health)
        self._pipeline = Pipeline(config, self._assignment, self._delivery, self._shadow, self._health)
        self._reporting = Reporting(self._delivery, self._shadow, self._follower, refusals, observer, self._health)

    def work(self, stop: Event, *, until_end: bool) -> RunSummary:
        """The loop, from joining the group to leaving it."""
        try:
            end = self._begin(stop, until_end=until_end)
            while not (stop.is_set() or (end and end.is_reached())):
                self._health.beat()
                self._delivery.recover(self._watch.ids)
                self._follow_models()
                self._pipeline.feed()
                self._reporting.report()
            self._delivery.commit()
        finally:
            self._close()
        return self._reporting.summary()

    def _begin(self, stop: Event, *, until_end: bool) -> UntilEnd | None:
        """Joins the group, and finds where a bounded run ends."""
        retry = self._delivery.retry
        end = retry.run(lambda: UntilEnd(self._config, self._source), stop) if until_end else None
        if self._follower:
            self._follower.start()
        retry.run(self._delivery.subscribe, stop)
        self._source.report_health()
        self._health.began()
        return end

    def _follow_models(self) -> None:
        """Goes on with the next model once it is ready; and with the next candidate to compare."""
        if self._follower is None:
            return
        for candidate in self._follower.take_shadows():
            self._shadow.change(candidate)
        if self._follower.is_ready and (candidate := self._follower.take()):
            self._swap(candidate)

    def _swap(self, candidate: Candidate) -> None:
        started, model = time.monotonic(), candidate.judge.model
        previous = self._assignment.judge.model.version
        self._delivery.rebase(candidate.judge, candidate.known)
        if self._shadow.version == model.version:
            self._shadow.change(None)
        stall = time.monotonic() - started
        self._reporting.stalls = self._reporting.stalls.plus(stall)
        log.info("model", version=model.version, previous=previous, stall_ms=round(1000 * stall, 1))

    def _close(self) -> None:
        """Leaves the group."""
        try:
            self._pipeline.close()
            self._shadow.close()
            if self._follower:
                self._follower.close()
        finally:
            self._delivery.close()
