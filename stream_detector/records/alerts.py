"""Alerts as they cross Kafka: JSON with CloudEvents headers."""

from dataclasses import dataclass
from hashlib import sha256
from types import NoneType
from typing import Literal, NamedTuple, cast, get_args

import orjson

from stream_detector.foreign import printable
from stream_detector.records.message import Header
from stream_detector.records.parsing import count, field, place

__all__ = ["Alert", "AlertKind", "Contribution", "alert_from_json"]

AlertKind = Literal["record", "silent", "resumed"]
"""A flagged record, or an entity that has stopped to send or sends again."""

EVENT_TYPE = "stream-detector.anomaly.v1"
OPINIONS = ("inversion", "discriminator", "views")  # the first two are in every alert; views are no opinion of a scorer


class Contribution(NamedTuple):
    """The part of one feature in an alert: what was seen, what was expected, its share of the surprise.

    `value` and `expected` are in the input's units (a category by its name, None = missing);
    `contribution` is in [0, 1] and sums to 1 over a record; `direction` is `high`, `low`,
    `expected` or `unexpected` (a category), or `missing`.
    """

    feature: str
    value: float | str | None
    expected: float | str | None
    contribution: float
    direction: str


class AlertContext(NamedTuple):
    """What an alert says of its record's context: the hash of the `spec`, whether the log held all of it (`whole`) or
    not (`partial`), and the nines of each view by name; None for one that said nothing.
    """

    spec: str
    state: str
    views: tuple[tuple[str, float | None], ...]


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
    row: int | None = None
    """Number of the record in its message, from 0; None where a message is one record."""
    others: tuple[tuple[str, float], ...] = ()
    """Opinions of scorers beside the two, by name."""
    context: AlertContext | None = None
    """None where the model judges records alone."""
    kind: AlertKind = "record"
    clock: int | None = None
    """What the event clock of the partition reads at the record, milliseconds; None where the worker keeps none."""

    @property
    def id(self) -> str:
        """`topic-partition-offset`, and `-row` where a message holds many records; it does not depend on how often the record is scored.

        Of an entity that is silent or has resumed: with the kind and a hash of the entity, for one record may tell of many.
        """
        place = f"{self.topic}-{self.partition}-{self.offset}"
        if self.kind != "record":
            return f"{place}-{self.kind}-{sha256((self.entity or '').encode()).hexdigest()[:16]}"
        return place if self.row is None else f"{place}-{self.row}"

    def to_json(self) -> bytes:
        """The alert's value on the alerts topic."""
        row = {} if self.row is None else {"row": self.row}
        opinions: dict[str, object] = {
            "inversion": self.inversion,
            "discriminator": self.discriminator,
            **dict(self.others),
        }
        context: dict[str, object] = {}
        if self.context:
            opinions["views"] = dict(self.context.views)
            context = {"context_spec": self.context.spec, "context_state": self.context.state}
        told: dict[str, object] = {} if self.kind == "record" else {"kind": self.kind}
        told |= {} if self.clock is None else {"clock": self.clock}
        return orjson.dumps(
            {
                "id": self.id,
                "source": {"topic": self.topic, "partition": self.partition, "offset": self.offset} | row,
                "event_id": self.event_id,
                "entity": self.entity,
                "event_time": self.event_time,
                "detection_time": self.detection_time,
                "model_version": self.model_version,
                "score": self.score,
                "threshold": self.threshold,
                "threshold_state": self.threshold_state,
                "opinions": opinions,
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
            | context
            | told
        )

    def headers(self, topic_id: str | None = None) -> list[Header]:
        """CloudEvents 1.0 attributes (Kafka binding, binary mode); `ce_id` is deterministic.

        `topic_id` is what the broker calls the topic of the record. It is part of the source: in a topic created
        anew under the same name offsets, and so ids, come again.
        """
        instance = "" if topic_id is None else f"?topic_id={topic_id}"
        return [
            ("ce_specversion", b"1.0"),
            ("ce_id", self.id.encode()),
            ("ce_source", f"/stream-detector/{self.topic}/{self.partition}{instance}".encode()),
            ("ce_type", EVENT_TYPE.encode()),
            ("ce_time", self.detection_time.encode()),
            ("ce_subject", printable(self.entity or self.event_id or self.id).encode()),
            ("content-type", b"application/json"),
        ]


def alert_from_json(value: bytes, key: bytes | None = None) -> Alert:
    """Reads an alert back from its topic; raises ValueError when it is none."""
    try:
        body = orjson.loads(value)
        source, opinions = field(body, "source", dict), field(body, "opinions", dict)
        return Alert(
            *place(source),
            key,
            field(body, "event_id", str, NoneType),
            field(body, "entity", str, NoneType),
            field(body, "event_time", str, NoneType),
            field(body, "detection_time", str),
            field(body, "model_version", str),
            float(field(body, "score", float, int)),
            float(field(body, "threshold", float, int)),
            field(body, "threshold_state", str),
            float(field(opinions, "inversion", float, int)),
            float(field(opinions, "discriminator", float, int)),
            field(body, "severity", str),
            tuple(map(_contribution, field(body, "features", list))),
            count(source, "row") if "row" in source else None,
            tuple((name, float(field(opinions, name, float, int))) for name in opinions if name not in OPINIONS),
            _context(body, opinions) if "context_spec" in body else None,
            _kind(body),
            field(body, "clock", int, NoneType),
        )
    except ValueError as error:
        raise ValueError(f"not an alert: {error}") from None


def _context(body: object, opinions: object) -> AlertContext:
    views = field(opinions, "views", dict)
    nines = tuple((name, field(views, name, float, int, NoneType)) for name in views)
    return AlertContext(
        field(body, "context_spec", str),
        field(body, "context_state", str),
        tuple((name, None if value is None else float(value)) for name, value in nines),
    )


def _kind(body: object) -> AlertKind:
    kind = field(body, "kind", str, NoneType) or "record"
    if kind not in get_args(AlertKind):
        raise ValueError(f"kind {kind!r:.80}")
    return cast("AlertKind", kind)


def _contribution(entry: object) -> Contribution:
    return Contribution(
        field(entry, "feature", str),
        field(entry, "value", str, float, int, NoneType),
        field(entry, "expected", str, float, int, NoneType),
        float(field(entry, "contribution", float, int)),
        field(entry, "direction", str),
    )
