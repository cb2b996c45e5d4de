"""Compares what a candidate would have flagged with what the model in force flagged, on the same records."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self

from stream_detector.records.parsing import count, field, json_object, texts

__all__ = ["Comparison"]

EXAMPLES = 20  # alert ids kept of those added, and of those lost


@dataclass(frozen=True, slots=True)
class Comparison:
    """Counts of records that two models judged, that each flagged, and that both flagged.

    `added` and `lost` are ids of some alerts that only the candidate, or only the champion, raised.
    """

    candidate: str
    champion: str
    records: int = 0
    candidate_alerts: int = 0
    champion_alerts: int = 0
    both: int = 0
    added: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, candidate: str, champion: str, records: int, candidate_ids: Iterable[str], champion_ids: Iterable[str]
    ) -> Self:
        """Compares by the ids of both models' alerts among so many records."""
        new, old = dict.fromkeys(candidate_ids), dict.fromkeys(champion_ids)
        added, lost = [each for each in new if each not in old], [each for each in old if each not in new]
        both = len(new) - len(added)
        return cls(
            candidate, champion, records, len(new), len(old), both, tuple(added[:EXAMPLES]), tuple(lost[:EXAMPLES])
        )

    def plus(self, other: "Comparison") -> "Comparison":
        """The sum of this comparison and another of the same two models."""
        return Comparison(
            self.candidate,
            self.champion,
            self.records + other.records,
            self.candidate_alerts + other.candidate_alerts,
            self.champion_alerts + other.champion_alerts,
            self.both + other.both,
            (self.added + other.added)[:EXAMPLES],
            (self.lost + other.lost)[:EXAMPLES],
        )

    @property
    def alerts_added(self) -> int:
        """Alerts that only the candidate raised."""
        return self.candidate_alerts - self.both

    @property
    def alerts_lost(self) -> int:
        """Alerts that only the champion raised."""
        return self.champion_alerts - self.both

    @property
    def agreement(self) -> float:
        """Share of all alerts that both raised, in [0, 1]; 1 when there are none."""
        either = self.candidate_alerts + self.champion_alerts - self.both
        return self.both / either if either else 1.0

    @classmethod
    def from_json(cls, value: bytes) -> Self:
        """Reads a comparison back from its topic; raises ValueError when it is none."""
        try:
            body = json_object(value)
            return cls(
                *(field(body, name, str) for name in ("candidate", "champion")),
                *(count(body, name) for name in ("records", "candidate_alerts", "champion_alerts", "both")),
                *(texts(body, name)[:EXAMPLES] for name in ("added", "lost")),
            )
        except ValueError as error:
            raise ValueError(f"not a comparison: {error!r:.300}") from None

    def to_json(self) -> bytes:
        """The value on the shadow topic."""
        return json.dumps(asdict(self)).encode()
