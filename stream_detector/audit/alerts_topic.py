"""Reads the alerts topic back: one alert by its id, or all that there are."""

import re
from collections.abc import Iterator

from confluent_kafka import Message

from stream_detector.config import Config
from stream_detector.errors import ConfigError, NotRetainedError
from stream_detector.kafka import reads, topics
from stream_detector.records import Alert, alert_from_json, raw

__all__ = ["everything", "find"]

ID = re.compile(r".+-[0-9]+-[0-9]+")
STEP = 10_000  # offsets read at once, backwards: the alert that is asked for is nearly always a recent one


def find(config: Config, alert_id: str) -> Alert:
    """Finds the newest alert of that id, searching backwards from the topic's end.

    Raises `ConfigError` when no alert can have that id, `NotRetainedError` when the topic holds no such alert.
    """
    _require_id(alert_id)
    topic = config.topics.alerts
    for (_, partition), reach in topics.watermarks(config.kafka, [topic]).items():
        chunks = reads.backwards(config.kafka, topic, partition, reach.high, STEP)
        candidates = (message for chunk in chunks for message in reversed(chunk) if _names(message, alert_id))
        for alert in filter(None, map(_alert, candidates)):
            if alert.id == alert_id:
                return alert
    raise NotRetainedError(
        f"alert {alert_id!r:.300} is not on topic {topic!r}: it was never raised, or retention has deleted it"
    )


def everything(config: Config) -> Iterator[Alert]:
    """Yields every alert that the topic retains, partition by partition; other messages are skipped."""
    topic = config.topics.alerts
    for (_, partition), reach in topics.watermarks(config.kafka, [topic]).items():
        for batch in reads.read(config.kafka, topic, partition, reach.low, reach.high):
            yield from filter(None, map(_alert, batch))


def _require_id(text: str) -> None:
    """Raises `ConfigError` when no alert can have that id: then no topic need be searched."""
    if not ID.fullmatch(text):
        raise ConfigError(
            f"alert id {text!r:.300}: expected TOPIC-PARTITION-OFFSET, as in the alert's 'id' (telemetry-0-1234)"
        )


def _names(message: Message, alert_id: str) -> bool:
    """Tells whether the id stands in a message at all; parsing every alert would take ten times longer."""
    return alert_id.encode() in (raw(message.value()) or b"")


def _alert(message: Message) -> Alert | None:
    try:
        return alert_from_json(raw(message.value()) or b"", raw(message.key()))
    except ValueError:
        return None
