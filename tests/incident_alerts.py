"""Alerts and progress as workers write them, in few words; event times are minutes from a fixed moment."""

from datetime import UTC, datetime, timedelta

from stream_detector.config.incident_section import IncidentConfig
from stream_detector.incidents.fold import Fold
from stream_detector.records.alerts import Alert, Contribution
from stream_detector.records.control_events import Progress
from stream_detector.records.feedback import Feedback, Verdict

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = 60_000  # milliseconds
SETTINGS = IncidentConfig()  # open at 2 alerts or 3 nines; quiet 10 minutes, cool-down 1 hour


def at(minutes):
    """A moment so many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


def clock(minutes):
    """That moment in milliseconds since 1970."""
    return int(at(minutes).timestamp() * 1_000)


def alert(offset, minutes, entity="db-1", features=("cpu", "memory", "io"), excess=1.0, **changes):
    """An alert at a record; the first of the features leads, with a share of 0.8, the second has 0.15."""
    shares = (0.8, 0.15, 0.05)[: len(features)]
    told = tuple(Contribution(name, 9.0, 5.0, share, "high") for name, share in zip(features, shares, strict=True))
    given = {
        "topic": "telemetry",
        "partition": 0,
        "offset": offset,
        "key": None,
        "event_id": None,
        "entity": entity,
        "event_time": at(minutes).isoformat(),
        "detection_time": "2026-02-01T00:00:00.000+00:00",
        "model_version": "m" * 64,
        "score": 3.0 + excess,
        "threshold": 3.0,
        "threshold_state": "rolling",
        "inversion": 3.0,
        "discriminator": 3.0,
        "severity": "minor" if excess < 2 else "critical",
        "contributions": told,
        "clock": clock(minutes),
    }
    return Alert(**(given | changes))


def silence(offset, minutes, entity="db-1", kind="silent", **changes):
    """An alert of an entity that has stopped to send, or has resumed."""
    return alert(offset, minutes, entity, (), 0.0, kind=kind, event_time=None, **changes)


def progress(offset, minutes, partition=0, topic_id=None):
    """The event clock has come so far."""
    return Progress("telemetry", partition, offset, clock(minutes), clock(minutes), topic_id)


def verdict(alert, said):
    """What somebody says of an alert, by its id."""
    return Feedback(alert, Verdict(said), "", "me", "2026-02-01T00:00:00Z")


def folded(*events, settings=SETTINGS, topic_id=None):
    """The last values of the topic by id, once these alerts and this progress were folded in their order."""
    return tell(Fold(settings), events, {}, topic_id)


def tell(fold, events, topic, topic_id=None):
    """Folds events in, and writes what changes to the topic: a dictionary in the order of the last writing."""
    for event in events:
        take(fold, event, topic_id)
    write(fold, topic)
    return topic


def take(fold, event, topic_id=None):
    """Folds an alert, progress or a verdict in."""
    if isinstance(event, Alert):
        fold.alert(event, topic_id)
    elif isinstance(event, Progress):
        fold.progress(event)
    else:
        fold.feedback(event)


def write(fold, topic):
    """One transaction: what has changed, the last value of each incident."""
    for id_, incident in fold.changes().items():
        topic.pop(id_, None)
        if incident is not None:
            topic[id_] = incident
