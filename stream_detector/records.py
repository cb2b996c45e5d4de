"""Everything that crosses Kafka: telemetry in, alerts and dead letters out.

A telemetry record is a JSON object. One that cannot be used is no exception but a `Rejection`,
and ends as a dead letter that carries its original bytes untouched.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from stream_detector.config import RecordConfig
from stream_detector.features import FeatureSchema, Rejection, encode

__all__ = [
    "CONTROL",
    "Alert",
    "Contribution",
    "DeadLetter",
    "Decoded",
    "Header",
    "Message",
    "Rows",
    "alert_from_json",
    "decode",
    "identity",
    "raw",
    "read",
]

Header = tuple[str, bytes | None]
Document = dict[str, Any]

CONNECT = "__connect.errors."
EVENT_TYPE = "stream-detector.anomaly.v1"
MAX_EPOCH_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that text from outside may not bring to a terminal or a log line."""


class Message(Protocol):
    """A consumed record; `confluent_kafka.Message` is one."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | str | None: ...
    def value(self) -> bytes | str | None: ...
    def headers(self) -> list[tuple[str, Any]] | None: ...
    def timestamp(self) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of record values as JSON objects, before any schema.

    `kept` holds the kept values' positions in the batch, ascending; `documents` and `features`
    (the object at `record.features_path`) go with them; `rejected` maps the other positions.
    """

    kept: list[int]
    documents: list[Document]
    features: list[Document]
    rejected: dict[int, Rejection]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch of record values, decoded.

    `features` is float32 [kept, feature]; `kept` holds the kept values' positions in the batch,
    ascending, `documents` their JSON objects; `rejected` maps the other positions to reasons.
    """

    features: NDArray[np.float32]
    kept: list[int]
    documents: list[Document]
    rejected: dict[int, Rejection]


@dataclass(frozen=True, slots=True)
class Contribution:
    """One feature's part in an alert: what was seen, what was expected, its share of the surprise.

    `value` and `expected` are in the input's units (a category by its name, None = missing);
    `contribution` is in [0, 1] and sums to 1 over a record; `direction` is `high`, `low`,
    `expected` or `unexpected` (a category), or `missing`.
    """

    feature: str
    value: float | str | None
    expected: float | str | None
    contribution: float
    direction: str


@dataclass(frozen=True, slots=True)
class Alert:
    """A flagged record. Scores and threshold are in nines: −log10 of a tail probability."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    event_id: str | None
    entity: str | None
    event_time: str | None
    detection_time: str
    model_version: str
    score: float
    threshold: float
    threshold_state: str
    inversion: float
    discriminator: float
    severity: str
    contributions: tuple[Contribution, ...]

    @property
    def id(self) -> str:
        """`topic-partition-offset`: the same for the same record, however often it is scored."""
        return f"{self.topic}-{self.partition}-{self.offset}"

    def to_json(self) -> bytes:
        """The alert's value on the alerts topic."""
        return orjson.dumps(
            {
                "id": self.id,
                "source": {"topic": self.topic, "partition": self.partition, "offset": self.offset},
                "event_id": self.event_id,
                "entity": self.entity,
                "event_time": self.event_time,
                "detection_time": self.detection_time,
                "model_version": self.model_version,
                "score": self.score,
                "threshold": self.threshold,
                "threshold_state": self.threshold_state,
                "opinions": {"inversion": self.inversion, "discriminator": self.discriminator},
                "severity": self.severity,
                "features": [
                    {
                        "feature": c.feature,
                        "value": c.value,
                        "expected": c.expected,
                        "contribution": c.contribution,
                        "direction": c.direction,
                    }
                    for c in self.contributions
                ],
            }
        )

    def headers(self) -> list[Header]:
        """CloudEvents 1.0 attributes (Kafka binding, binary mode); `ce_id` is deterministic."""
        return [
            ("ce_specversion", b"1.0"),
            ("ce_id", self.id.encode()),
            ("ce_source", f"/stream-detector/{self.topic}/{self.partition}".encode()),
            ("ce_type", EVENT_TYPE.encode()),
            ("ce_time", self.detection_time.encode()),
            ("ce_subject", printable(self.entity or self.event_id or self.id).encode()),
            ("content-type", b"application/json"),
        ]


def alert_from_json(value: bytes, key: bytes | None = None) -> Alert:
    """An alert read back from the alerts topic; raises ValueError when it is none."""
    try:
        body = orjson.loads(value)
        source, opinions = body["source"], body["opinions"]
        return Alert(
            source["topic"],
            source["partition"],
            source["offset"],
            key,
            body["event_id"],
            body["entity"],
            body["event_time"],
            body["detection_time"],
            body["model_version"],
            float(body["score"]),
            float(body["threshold"]),
            body["threshold_state"],
            float(opinions["inversion"]),
            float(opinions["discriminator"]),
            body["severity"],
            tuple(map(_contribution, body["features"])),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an alert: {error!r}") from None


def _contribution(entry: Document) -> Contribution:
    value, expected, share = entry["value"], entry["expected"], entry["contribution"]
    if not (isinstance(value, str | float | int | None) and isinstance(expected, str | float | int | None)):
        raise TypeError(f"feature {entry['feature']!r:.80} has values of another type than features have")
    if not isinstance(share, float | int):
        raise TypeError(f"feature {entry['feature']!r:.80} has no number for its contribution")
    return Contribution(str(entry["feature"]), value, expected, float(share), str(entry["direction"]))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used: its original bytes, and why."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp_ms: int
    reason: str

    @classmethod
    def of(cls, message: Message, rejection: Rejection) -> "DeadLetter":
        """Key, value, headers and timestamp untouched, plus Kafka Connect's error headers."""
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        context: list[Header] = [
            (CONNECT + "topic", topic.encode()),
            (CONNECT + "partition", str(partition).encode()),
            (CONNECT + "offset", str(offset).encode()),
            (CONNECT + "connector.name", b"stream-detector"),
            (CONNECT + "task.id", b"0"),
            (CONNECT + "stage", b"VALUE_CONVERTER"),
            (CONNECT + "class.name", b"stream_detector.records"),
            (CONNECT + "exception.class.name", rejection.reason.encode()),
            (CONNECT + "exception.message", printable(rejection.message).encode()),
        ]
        kind, timestamp = message.timestamp()
        return cls(
            topic,
            partition,
            offset,
            raw(message.key()),
            raw(message.value()),
            (*(message.headers() or ()), *context),
            timestamp if kind else 0,
            rejection.reason,
        )


def read(values: Sequence[bytes | None], config: RecordConfig) -> Rows:
    """Record values as JSON objects and their features, the unusable ones with a reason each.

    The whole batch is parsed by one call; only when that fails is it parsed one by one.
    """
    rows = Rows([], [], [], {})
    for position, document in enumerate(_parse(values, config)):
        if isinstance(document, Rejection):
            rows.rejected[position] = document
            continue
        features = _features_of(document, config.features_path)
        if isinstance(features, Rejection):
            rows.rejected[position] = features
            continue
        rows.kept.append(position)
        rows.documents.append(document)
        rows.features.append(features)
    return rows


def telemetry_to_json(event_id: str, event_time: str | float | None, entity: str | None, features: Document) -> bytes:
    """A telemetry record's value in the default layout (`record.features_path: features`), for producers.

    Time is RFC 3339 or epoch milliseconds; what is None is left out, a missing feature too.
    """
    head = {"id": event_id, "time": event_time, "entity": entity}
    present = {name: value for name, value in features.items() if value is not None}
    return orjson.dumps({name: value for name, value in head.items() if value is not None} | {"features": present})


def decode(values: Sequence[bytes | None], schema: FeatureSchema, config: RecordConfig) -> Decoded:
    """Record values as a feature matrix and documents, the unusable ones with a reason each."""
    rows = read(values, config)
    encoded = encode(schema, rows.features, config.max_string)
    if not encoded.rejected:
        return Decoded(encoded.matrix, rows.kept, rows.documents, rows.rejected)
    rejected = rows.rejected | {rows.kept[row]: reason for row, reason in encoded.rejected.items()}
    kept, documents = [rows.kept[r] for r in encoded.kept], [rows.documents[r] for r in encoded.kept]
    return Decoded(encoded.matrix, kept, documents, rejected)


def identity(document: Document, config: RecordConfig) -> tuple[str | None, str | None, str | None]:
    """Event id, entity and event time (RFC 3339, UTC) of a document; None where absent or unusable.

    Text beyond `record.max_string` characters is cut.
    """
    return (
        _text(_at(document, config.id_path), config.max_string),
        _text(_at(document, config.entity_path), config.max_string),
        _time(_at(document, config.time_path)),
    )


def _parse(values: Sequence[bytes | None], config: RecordConfig) -> Sequence[Document | Rejection]:
    return _parse_together(values, config) or [_parse_alone(value, config) for value in values]


def _parse_together(values: Sequence[bytes | None], config: RecordConfig) -> Sequence[Document] | None:
    """All documents by one parse; None when any value is unusable or needs a closer look.

    A random marker stands between the values, so that no value can pass for two, nor a broken
    one be completed by its neighbour: the markers would not come out where they were put in.
    """
    deep = config.max_depth
    for value in values:
        if value is None or len(value) > config.max_bytes or value.count(b"{") + value.count(b"[") > deep:
            return None
    marker = secrets.token_hex(8)
    try:
        parts = orjson.loads(b"[" + f',"{marker}",'.encode().join(values) + b"]")  # type: ignore[arg-type]
    except orjson.JSONDecodeError:
        return None
    documents, markers = parts[::2], parts[1::2]
    whole = len(parts) == 2 * len(values) - 1 and all(part == marker for part in markers)
    return documents if whole and set(map(type, documents)) == {dict} else None


def _parse_alone(value: bytes | None, config: RecordConfig) -> Document | Rejection:
    if value is None:
        return Rejection("tombstone", "the record has no value")
    if len(value) > config.max_bytes:
        return Rejection("too-large", f"the record has {len(value):,} bytes, limit {config.max_bytes:,}")
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return Rejection("undecodable", f"not JSON: {error}")
    if not isinstance(document, dict):
        return Rejection("not-an-object", f"the record is a JSON {type(document).__name__}, expected an object")
    if value.count(b"{") + value.count(b"[") > config.max_depth and _deeper(document, config.max_depth):
        return Rejection("too-deep", f"objects and arrays nest deeper than {config.max_depth}")
    return document


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(part, levels - 1) for part in inner)


def _features_of(document: Document, path: str) -> Document | Rejection:
    features = _at(document, path) if path else document
    if features is None:
        return Rejection("no-features", f"the record has no {path!r}")
    if not isinstance(features, dict):
        return Rejection("no-features", f"{path!r} is {type(features).__name__}, expected an object")
    return features


def _at(document: Document, path: str) -> Any:
    """The value at a dotted path; a key that itself holds dots is found too."""
    if not path or path in document:
        return document.get(path)
    value: Any = document
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any, limit: int) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)[:limit]


def _time(value: Any) -> str | None:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_EPOCH_MS:
            moment = datetime.fromtimestamp(value / 1000, UTC)
        else:
            return None
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        return None


def printable(text: str) -> str:
    """Text from outside made safe for a terminal and a log line, at most 500 characters."""
    return CONTROL.sub("\ufffd", text[:500])


def raw(value: bytes | str | None) -> bytes | None:
    """A key or value as bytes; clients may hand out text."""
    return value.encode() if isinstance(value, str) else value
