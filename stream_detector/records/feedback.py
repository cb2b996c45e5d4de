"""Verdicts of people on alerts, and the precision that follows from them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self

from stream_detector.records.parsing import field, json_object

__all__ = ["Feedback", "Precision", "Verdict", "precision"]


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
