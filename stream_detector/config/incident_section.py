"""The section `incidents` of the configuration: when alerts are one incident, and when it is over."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from stream_detector.config.sections import Section

__all__ = ["IncidentConfig"]


def _at_least_a_second(span: timedelta) -> timedelta:
    if span < timedelta(seconds=1):
        raise ValueError("must be at least a second")
    return span


Span = Annotated[timedelta, AfterValidator(_at_least_a_second)]
"""Event time: seconds, HH:MM:SS or ISO 8601 (PT10M)."""


class IncidentConfig(Section):
    """What makes alerts one incident. Times are those of the partition's event clock."""

    longest_step: Span = timedelta(minutes=5)
    """The most that one record moves the event clock; above the usual time between two records of a partition."""
    evidence_alerts: int = Field(2, ge=1, le=1_000)
    """Alerts after which an incident is open; with fewer it is pending, and nobody is told."""
    evidence_nines: float = Field(3.0, gt=0, le=100)
    """One alert so many nines above its threshold is enough, too."""
    least_contribution: float = Field(0.1, ge=0, le=1)
    """A feature of an alert opens an incident again if it leads, or has this share of the surprise."""
    quiet: Span = timedelta(minutes=10)
    """An incident without an alert for so long is over."""
    cooldown: Span = timedelta(hours=1)
    """An alert that comes within so long of the end opens the same incident again."""
    flapping: int = Field(3, ge=1, le=1_000)
    """An incident opened again so often is flapping: it is over only after quiet and cooldown together."""
    keep: Span = timedelta(days=30)
    """An incident over for so long leaves the topic."""
    group_members: int = Field(3, ge=2, le=10_000)
    """Entities with open incidents of one cause that make a group."""
    group_bucket: Span = timedelta(minutes=10)
    """Incidents that begin in the same stretch of so long began together."""

    @model_validator(mode="after")
    def _times_nest(self) -> Self:
        if self.keep < self.quiet + self.cooldown:
            raise ValueError(
                f"keep {self.keep} is shorter than quiet and cooldown together ({self.quiet + self.cooldown})"
            )
        return self
