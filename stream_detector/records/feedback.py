"""What people say: verdicts on alerts, the precision that follows from them, and mutes of incidents."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import NoneType
from typing import Any, Self

from stream_detector.records.parsing import field, json_object, texts

__all__ = ["Feedback", "Mute", "Precision", "Verdict", "precision"]


class Verdict(StrEnum):
    """Says what an alert turned out to be."""

    ANOMALY = "anomaly"
    FALSE_ALARM = "false-alarm"


@dataclass(frozen=True, slots=True)
class Feedback:
    """A verdict on an alert (by its id), with who gave it, when (RFC 3339), and what they noted."""

    alert: str
    verdict: Verdict
    note: str
    who: str
    time: str

    @classmethod
    def from_json(cls, value: bytes) -> Self:
        """Reads feedback back from its topic; raises ValueError when it is none."""
        try:
            body = json_object(value)
            verdict = Verdict(field(body, "verdict", str))
            given = {name: field(body, name, str) for name in ("alert", "note", "who", "time")}
        except ValueError as error:
            raise ValueError(f"not feedback: {error}") from None
        return cls(verdict=verdict, **given)

    def to_json(self) -> bytes:
        """The value on the feedback topic."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True, slots=True)
class Precision:
    """Counts of alerts by verdict, and the share of them that was right; None while there is no verdict."""

    anomalies: int
    false_alarms: int

    @property
    def judged(self) -> int:
        """Alerts with a verdict."""
        return self.anomalies + self.false_alarms

    @property
    def value(self) -> float | None:
        """Anomalies among the judged alerts, 0 to 1."""
        return self.anomalies / self.judged if self.judged else None


def precision(verdicts: Mapping[str, Feedback]) -> Precision:
    """Computes the precision over the latest verdict on each alert."""
    anomalies = sum(feedback.verdict is Verdict.ANOMALY for feedback in verdicts.values())
    return Precision(anomalies, len(verdicts) - anomalies)


@dataclass(frozen=True, slots=True)
class Mute:
    """A person's wish not to be told of some incidents for a while: one by its id, or those of entities and features.

    Names may hold `*` and `?`; what is left out mutes everything. `when` and `until` are moments with a zone.
    """

    id: str
    who: str
    when: datetime
    until: datetime
    why: str
    incident: str | None = None
    entities: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """The key on the rules topic; a value of nothing ends the mute."""
        return self.id.encode()

    def holds(self, now: datetime) -> bool:
        """Tells whether it is in force at a moment."""
        return self.when <= now < self.until

    @classmethod
    def from_json(cls, value: bytes) -> Self:
        """Reads a mute back from its topic; ignores keys of later versions. Raises ValueError when it is none."""
        try:
            body = json_object(value)
            said: dict[str, Any] = {name: field(body, name, str) for name in ("id", "who", "why")}
            said |= {name: _moment(field(body, name, str)) for name in ("when", "until")}
            said |= {name: texts(body, name) for name in ("entities", "features")}
            return cls(incident=field(body, "incident", str, NoneType), **said)
        except ValueError as error:
            raise ValueError(f"not a mute: {error}") from None

    def to_json(self) -> bytes:
        """The value on the rules topic."""
        return json.dumps(asdict(self), default=datetime.isoformat).encode()


def _moment(text: str) -> datetime:
    """A moment; UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
