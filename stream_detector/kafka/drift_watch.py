"""What a worker says about its partitions on the control topic: drift, and changes of regime."""

from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from stream_detector.config import DriftConfig
from stream_detector.control import ControlEvent
from stream_detector.detector import Outcome
from stream_detector.drift import Monitor, Notice
from stream_detector.scoring.threshold import RollingThreshold

__all__ = ["DriftWatch"]

Partition = tuple[str, int]

log = structlog.get_logger(__name__)


class DriftWatch:
    """One monitor a partition, as old as the partition's threshold: both begin anew together."""

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._monitors: dict[Partition, tuple[RollingThreshold, Monitor]] = {}

    def events(
        self, outcome: Outcome, thresholds: Mapping[Partition, RollingThreshold], model: str
    ) -> list[ControlEvent]:
        """What a batch, just judged by these thresholds under this model, shows."""
        if not self._config.enabled:
            return []
        self._forget(thresholds)
        found = []
        for judged in outcome.judged:
            for partition, rows in judged.runs:
                offsets = judged.offsets[rows]
                first, last = int(offsets[0]), int(offsets[-1])
                alerts = [
                    a for a in outcome.alerts if (a.topic, a.partition) == partition and first <= a.offset <= last
                ]
                scores, residuals = judged.scores.anomaly[rows], judged.scores.inversion[rows]
                monitor = self._monitor(partition, thresholds[partition])
                notices = monitor.update(offsets, scores, residuals, alerts)
                found += [_event(notice, partition, model) for notice in notices]
        return found

    def _monitor(self, partition: Partition, threshold: RollingThreshold) -> Monitor:
        known, monitor = self._monitors.get(partition, (None, None))
        if monitor is None or known is not threshold:
            monitor = Monitor(self._config)
            self._monitors[partition] = threshold, monitor
        return monitor

    def _forget(self, thresholds: Mapping[Partition, RollingThreshold]) -> None:
        for partition in self._monitors.keys() - thresholds.keys():
            del self._monitors[partition]


def _event(notice: Notice, partition: Partition, model: str) -> ControlEvent:
    topic, number = partition
    kind = "regime-change" if notice.detector == "pattern" else "drift"
    event = ControlEvent(
        kind=kind,  # type: ignore[arg-type]
        id=f"{kind}-{topic}-{number}-{notice.offset}",
        topic=topic,
        partition=number,
        offset=notice.offset,
        detector=notice.detector,
        stream=notice.stream,
        model=model,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        features=notice.features,
    )
    log.info("noticed", **{key: getattr(event, key) for key in ("kind", "record", "detector", "stream", "features")})
    return event
