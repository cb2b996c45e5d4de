"""Reads of an alert what the fold goes by: when it was, what it is about, and how far it lies out."""

from datetime import UTC, datetime, timedelta

from stream_detector.records.alerts import Alert
from stream_detector.records.incident import SEVERITY_WORDS, Cause, Deviation, IncidentKind, Peak, Severity

__all__ = ["EPOCH", "MILLISECOND", "cause", "clock_of", "kind_of", "leading", "peak", "severity", "time_of"]

LEADING = 3  # features of an alert that tell what it is about
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def clock_of(alert: Alert, before: int) -> int:
    """What the partition's event clock read, milliseconds; from a worker that keeps none the record's own time.

    Without either, it still reads what it did at the alert `before`.
    """
    if alert.clock is not None:
        return alert.clock
    said = _said(alert)
    return before if said is None else (said - EPOCH) // MILLISECOND


def time_of(alert: Alert, clock: int) -> datetime:
    """When it happened: the record's own time, else the clock's, in UTC."""
    said = _said(alert)
    if said is not None:
        return said
    try:
        return EPOCH + clock * MILLISECOND
    except OverflowError:
        return EPOCH


def kind_of(alert: Alert) -> IncidentKind:
    """The kind of incident that an alert belongs to."""
    return "record" if alert.kind == "record" else "silent"


def leading(alert: Alert, least: float = 0.0) -> frozenset[str]:
    """The features that an alert is about: the first, and of the next two those from the contribution `least` on."""
    told = enumerate(alert.contributions[:LEADING])
    return frozenset(each.feature for at, each in told if at == 0 or each.contribution >= least)


def cause(alert: Alert) -> Cause:
    """The leading feature and its direction."""
    first = next(iter(alert.contributions), None)
    return Cause(first.feature, first.direction) if first else Cause(None, None)


def severity(alert: Alert) -> Severity:
    """The alert's own word; the mildest where it has another one."""
    return next((word for word in SEVERITY_WORDS if word == alert.severity), SEVERITY_WORDS[0])


def peak(alert: Alert, time: datetime) -> Peak:
    """What an incident keeps of the alert that lies furthest out."""
    features = tuple(Deviation(*each) for each in alert.contributions[:LEADING])
    return Peak(alert.id, time, alert.score, alert.threshold, features)


def _said(alert: Alert) -> datetime | None:
    """The record's own time in UTC, None where it says none that a calendar has."""
    try:
        moment = datetime.fromisoformat(alert.event_time or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
