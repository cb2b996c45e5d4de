"""Keeps verdicts on Kafka: a compacted topic, the latest one on each alert by its id.

Retraining keeps records called an anomaly out of its data, the gate asks a candidate to detect
them, and the share of alerts that were right is the precision.
"""

from datetime import UTC, datetime

import structlog
from confluent_kafka import Message

from stream_detector.audit import alerts_topic
from stream_detector.config import Config
from stream_detector.kafka import reads, topics
from stream_detector.kafka.clients import send
from stream_detector.records import raw
from stream_detector.records.feedback import Feedback, Verdict

__all__ = ["give", "latest"]

MAX_NOTE = 2_000  # characters
MAX_WHO = 500

log = structlog.get_logger(__name__)


def give(config: Config, alert_id: str, verdict: Verdict, note: str, who: str) -> Feedback:
    """Records a verdict on an alert that is there; it replaces an earlier one.

    Raises `ConfigError` for a text that is no alert id, `NotRetainedError` when the alerts topic holds no
    such alert, and a `KafkaError` when the verdict was not acknowledged.
    """
    topics.require(config.kafka, [config.topics.feedback])
    alerts_topic.find(config, alert_id)
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    feedback = Feedback(alert_id, verdict, note[:MAX_NOTE], who[:MAX_WHO], time)
    send(config.kafka, config.topics.feedback, alert_id.encode(), feedback.to_json())
    return feedback


def latest(config: Config) -> dict[str, Feedback]:
    """Reads the latest verdict on each alert, by alert id; raises `TopicMissingError` without the topic.

    A record without a value withdraws a verdict; one that cannot be read is logged and skipped.
    """
    topic = config.topics.feedback
    found: dict[str, Feedback] = {}
    for (_, partition), reach in topics.watermarks(config.kafka, [topic]).items():
        for batch in reads.read(config.kafka, topic, partition, reach.low, reach.high):
            for message in batch:
                _take(found, message)
    return found


def _take(found: dict[str, Feedback], message: Message) -> None:
    key, value = (raw(message.key()) or b"").decode(errors="replace"), raw(message.value())
    if value is None:
        found.pop(key, None)
        return
    try:
        feedback = Feedback.from_json(value)
    except ValueError as error:
        log.warning("feedback passed over", topic=message.topic(), offset=message.offset(), error=str(error)[:200])
        return
    found[feedback.alert] = feedback
