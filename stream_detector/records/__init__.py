"""Everything that crosses Kafka: telemetry in, alerts and dead letters out.

A record that cannot be used is no exception but a `Rejection`, and ends as a dead letter that
carries its original bytes untouched.
"""

from stream_detector.foreign import printable
from stream_detector.records.alerts import Alert, AlertContext, Contribution, alert_from_json
from stream_detector.records.dead_letters import CONNECT, DeadLetter
from stream_detector.records.decoding import Decoded, Decoder
from stream_detector.records.documents import (
    Document,
    Parse,
    Rows,
    TooMuchAtOnce,
    identity,
    telemetry_to_json,
    value_at,
)
from stream_detector.records.message import Arrivals, Header, Message, TopicPartition, raw, values_of

__all__ = [
    "CONNECT",
    "Alert",
    "AlertContext",
    "Arrivals",
    "Contribution",
    "DeadLetter",
    "Decoded",
    "Decoder",
    "Document",
    "Header",
    "Message",
    "Parse",
    "Rows",
    "TooMuchAtOnce",
    "TopicPartition",
    "alert_from_json",
    "identity",
    "printable",
    "raw",
    "telemetry_to_json",
    "value_at",
    "values_of",
]
