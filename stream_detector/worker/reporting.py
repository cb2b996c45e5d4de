"""What a worker tells others about itself: its summary to an observer, its troubles to its health."""

import time
from collections.abc import Mapping
from dataclasses import replace

from stream_detector.health import Health
from stream_detector.registry.admission import Refusals
from stream_detector.worker.delivery import Delivery
from stream_detector.worker.model_swap import ModelFollower
from stream_detector.worker.partitions.assignment import Assignment
from stream_detector.worker.shadow import Shadow
from stream_detector.worker.summary import ContextSummary, Observer, RunSummary, Stalls

__all__ = ["Reporting"]

INTERVAL = 1.0  # seconds between two reports


class Reporting:
    """Collects what the parts of a worker count; `stalls` are counted here, one for each change of the model."""

    def __init__(
        self,
        delivery: Delivery,
        shadow: Shadow,
        follower: ModelFollower | None,
        refusals: Refusals,
        observer: Observer | None,
        health: Health,
    ) -> None:
        self.stalls = Stalls()
        self._delivery, self._shadow, self._follower, self._refusals = delivery, shadow, follower, refusals
        self._observer, self._health = observer, health
        self._reported_at = 0.0

    def report(self) -> None:
        """Tells how things stand, at most once a second."""
        now = time.monotonic()
        if now - self._reported_at < INTERVAL:
            return
        self._reported_at = now
        self._delivery.source.report_health()
        self._health.remark("model", self._refusals.standing)
        self._health.remark("pointer", self._follower.trouble if self._follower else None)
        if self._observer:
            self._observer.observe(self.summary())
        self._shadow.send()

    def summary(self) -> RunSummary:
        """What is committed so far."""
        delivery, source = self._delivery, self._delivery.source
        thresholds = source.assignment.thresholds.values()
        return replace(
            delivery.ledger.summary(),
            recreations=max(0, delivery.takeover.made - 1),
            restores=source.restores,
            rebalances=source.rebalances,
            offsets_lost=source.starts.offsets_lost,
            topics_recreated=source.starts.recreated,
            lag=source.lag(),
            partitions=len(thresholds),
            warming=sum(threshold.current().warming for threshold in thresholds),
            model=source.assignment.judge.model.version,
            outputs_left_out=delivery.ledger.done.left_out + self._shadow.left_out,
            swaps=sum(self.stalls.counts),
            models_refused=len(self._refusals),
            swap_stalls=self.stalls,
            context=_context(source.assignment, delivery.ledger.done.read),
        )


def _context(assignment: Assignment, counts: Mapping[str, int]) -> ContextSummary | None:
    """What is remembered of entities; None where the model judges records alone."""
    if assignment.judge.context_model is None:
        return None
    contexts = [(owned.context, owned.next_offset) for owned in assignment.reading if owned.context]
    return ContextSummary(
        sum(context.entities for context, _ in contexts),
        sum(context.memory for context, _ in contexts),
        sum(not context.is_whole(offset) for context, offset in contexts),
        dict(counts),
    )
