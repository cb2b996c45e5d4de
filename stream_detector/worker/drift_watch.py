"""Tells on the control topic what changes in a worker's partitions: drift, and changes of regime."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import structlog
from numpy.typing import NDArray

from stream_detector.config import DriftConfig
from stream_detector.detector import Judged, Outcome, within
from stream_detector.drift import Deviations, Monitor, Notice
from stream_detector.model import DetectorModel
from stream_detector.records import TopicPartition
from stream_detector.records.control_events import ControlEvent
from stream_detector.worker.partitions.assignment import Assignment, OwnedPartition

__all__ = ["DriftWatch"]

REGIME = frozenset({"pattern", "unseen", "dead-letters"})  # the other detectors notice drift
DEVIATIONS = frozenset({"missing", "unseen", "dead-letters"})

log = structlog.get_logger(__name__)


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
