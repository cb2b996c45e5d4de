"""Incidents as they cross Kafka: the alerts of one entity and cause as one thing, and many such things at once.

The topic is compacted; the key is the incident's id, and the last value is what the incident is. Nothing in it
tells when it was written.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from stream_detector.records.feedback import Verdict

__all__ = [
    "SEVERITY_WORDS",
    "Cause",
    "Deviation",
    "Group",
    "Incident",
    "IncidentKind",
    "IncidentState",
    "LastAlert",
    "Member",
    "Peak",
    "Severity",
    "SourcePartition",
    "incident_from_json",
    "incident_schema",
]

IncidentKind = Literal["record", "silent"]
"""Flagged records of an entity, or an entity that has stopped to send."""
IncidentState = Literal["pending", "open", "resolved"]
"""Too few alerts yet to tell anyone; going on; over."""
Severity = Literal["warning", "minor", "major", "critical"]
SEVERITY_WORDS: tuple[Severity, ...] = ("warning", "minor", "major", "critical")
"""From the mildest to the worst."""
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


@dataclass(frozen=True, slots=True)
class SourcePartition:
    """The partition whose records are flagged."""

    topic: str
    partition: Annotated[int, Field(ge=0)]
    topic_id: str | None = None
    """What the broker calls the topic; a topic created anew has another one."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What the first alert was about; None for an entity that is silent."""

    feature: str | None
    direction: str | None


@dataclass(frozen=True, slots=True)
class Deviation:
    """One feature in an alert, in the input's units; `contribution` is its share of the surprise, 0 to 1."""

    feature: str
    value: float | str | None
    expected: float | str | None
    contribution: float
    direction: str


@dataclass(frozen=True, slots=True)
class Peak:
    """The alert that lies furthest above its threshold; scores are in nines."""

    alert: str
    time: datetime
    score: float
    threshold: float
    features: tuple[Deviation, ...]
    """At most three, the largest contribution first."""

    @property
    def excess(self) -> float:
        """How far the score lies above the threshold, nines."""
        return self.score - self.threshold


@dataclass(frozen=True, slots=True)
class LastAlert:
    """The alert folded last, and the clock's reading there: from this the fold goes on after a restart."""

    offset: Annotated[int, Field(ge=0)]
    row: int | None
    clock: int
    """The event clock of the partition, milliseconds."""
    quiet_until: int
    """The reading at which the incident is over if no alert of it comes before, milliseconds."""


@dataclass(frozen=True, slots=True)
class Incident:
    """The alerts of one entity that one cause explains, from first to last."""

    id: Id
    kind: IncidentKind
    state: IncidentState
    severity: Severity
    source: SourcePartition
    entity: str | None
    cause: Cause
    begin: datetime
    """The earliest event time of its alerts."""
    end: datetime
    """The latest event time of its alerts."""
    first: datetime
    """The event time of the first alert by offset; it never changes."""
    opened: datetime | None
    """The event time of the alert that made the evidence sufficient; None = it never was."""
    revision: Annotated[int, Field(ge=1)]
    """How many alerts were folded: the count."""
    alerts: Annotated[tuple[str, ...], Field(min_length=1, max_length=20)]
    """The ids of the first alerts."""
    features: tuple[str, ...]
    """The leading features of the first alert; an alert led by one of these joins."""
    models: tuple[str, ...]
    peak: Peak
    last: LastAlert
    verdicts: dict[str, Verdict]
    """What people said, by the id of the alert."""
    reopened: Annotated[int, Field(ge=0)] = 0
    flapping: bool = False
    previous: Id | None = None
    """An earlier incident of this entity that was about the same, and had been over for long."""

    @property
    def key(self) -> bytes:
        """The key on the topic."""
        return self.id.encode()

    def to_json(self) -> bytes:
        """The value on the topic."""
        return _ADAPTER.dump_json(self)


@dataclass(frozen=True, slots=True)
class Member:
    """An incident of a group, as it was when it was counted last."""

    id: Id
    entity: str | None
    topic: str
    partition: int
    state: IncidentState


@dataclass(frozen=True, slots=True)
class Group:
    """Incidents of several entities or partitions that began together, under one model and from one cause."""

    id: Id
    kind: Literal["group"]
    state: IncidentState
    """Open while a member is."""
    severity: Severity
    """The worst of the members'."""
    cause: Cause
    model: str
    begin: datetime
    end: datetime
    revision: int
    """How many alerts were folded into the members."""
    size: int
    """How many members it has."""
    entities: int
    """How many entities they are of; an incident without an entity counts as one for its partition."""
    members: Annotated[tuple[Member, ...], Field(max_length=20)]
    """Those that began first."""
    peak: Peak

    @property
    def key(self) -> bytes:
        """The key on the topic."""
        return self.id.encode()

    def to_json(self) -> bytes:
        """The value on the topic."""
        return _ADAPTER.dump_json(self)


_ADAPTER: TypeAdapter[Incident | Group] = TypeAdapter(
    Annotated[Incident | Group, Field(discriminator="kind")],
    config=ConfigDict(use_attribute_docstrings=True, ser_json_inf_nan="null"),
)


def incident_from_json(value: bytes) -> Incident | Group:
    """Reads a value of the topic; ignores keys of later versions. Raises ValueError when it is none."""
    try:
        return _ADAPTER.validate_json(value, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"not an incident: {'.'.join(map(str, fault['loc']))} {fault['msg']:.200}") from None


def incident_schema() -> dict[str, Any]:
    """The JSON Schema of the topic's values."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | _ADAPTER.json_schema(mode="serialization")
