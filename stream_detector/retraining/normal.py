"""Keeps the normal records of a window, from which a model may learn; the others get a reason.

Each rule is a function from the window to the records that it drops [record]. Of several reasons
the first counts. Two kinds of rule: what a person or the stream itself says (intervals, feedback,
one entity's share) holds for every record; what the champion says (alerts, guard band) is doubt,
and is limited, because the champion is what retraining is to replace.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from stream_detector.config.retrain_section import Interval
from stream_detector.retraining.telemetry_window import TelemetryRecord

__all__ = ["AlertLabels", "doubtful", "excluded", "marked", "over_share", "strongest"]

Bools = NDArray[np.bool_]
Records = Sequence[TelemetryRecord]


@dataclass(frozen=True, slots=True)
class AlertLabels:
    """What alerts and feedback say about records, as ids of alerts: those that were flagged, those that a person
    called anomalous (in the window or outside it, the latest verdict last), and those called false alarms.
    """

    flagged: frozenset[str] = frozenset()
    anomalous: tuple[str, ...] = ()
    cleared: frozenset[str] = frozenset()


def excluded(records: Records, intervals: Sequence[Interval]) -> Bools:
    """Finds records written in one of the intervals, their ends left out."""
    times = np.array([record.time_ms for record in records], dtype=np.int64)
    dropped = np.zeros(len(records), dtype=np.bool_)
    for interval in intervals:
        dropped |= (times >= _epoch_ms(interval.begin)) & (times < _epoch_ms(interval.end))
    return dropped


def marked(records: Records, ids: Collection[str]) -> Bools:
    """Finds the records that `ids` names."""
    return np.array([record.id in ids for record in records], dtype=np.bool_)


def over_share(records: Records, kept: Bools, share: float) -> Bools:
    """Finds kept records of an entity beyond its share of them; evenly spaced ones of it remain.

    Where there are too few entities for `share`, an equal share is allowed to each. A record
    without an entity stands for itself.
    """
    entities = Counter(record.entity for record, keep in zip(records, kept, strict=True) if keep and record.entity)
    dropped = np.zeros(len(records), dtype=np.bool_)
    if not entities:
        return dropped
    most = ceil(max(share, 1 / len(entities)) * int(kept.sum()))
    for entity in sorted(entity for entity, count in entities.items() if count > most):
        own = np.array([at for at, record in enumerate(records) if kept[at] and record.entity == entity])
        dropped[own] = True
        dropped[own[np.linspace(0, len(own) - 1, most).round().astype(int)]] = False
    return dropped


def doubtful(records: Records, labels: AlertLabels, scores: NDArray[np.float32] | None, guard: float) -> Bools:
    """Finds records with an alert, or scored beyond `guard` by the champion, except those that a person has cleared."""
    doubt = marked(records, labels.flagged)
    if scores is not None:
        doubt |= scores > guard
    return doubt & ~marked(records, labels.cleared)


def strongest(doubt: Bools, scores: NDArray[np.float32] | None, share: float) -> Bools:
    """Takes the most anomalous of the doubtful records, at most `share` of all records."""
    most = int(share * len(doubt))
    ranks = np.where(doubt, inf if scores is None else scores, -inf)
    dropped = np.zeros(len(doubt), dtype=np.bool_)
    dropped[np.argsort(-ranks, kind="stable")[:most]] = True
    return dropped & doubt


def _epoch_ms(moment: datetime) -> float:
    return moment.astimezone(UTC).timestamp() * 1000
