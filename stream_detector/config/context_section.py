"""The section `context`: what a record's entity did before, as far as that is judged."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stream_detector.config.sections import Section

__all__ = ["ContextConfig"]


class ContextConfig(Section):
    """The short memory of each entity, which is read from the log, and what is made of it.

    Entities and times are what `record.entity_path` and `record.time_path` name. Where a path is empty, the
    partition is one entity, and there is no calendar.
    """

    enabled: bool = False
    """Whether a model that is fitted judges a record by what its entity did before, too."""
    zone: str = "UTC"
    """Time zone of the hours and weekdays, such as Europe/Berlin."""
    epoch: int = Field(1_000_000, ge=100, le=1_000_000_000)
    """Offsets of a partition after which its memory begins anew, from what the last ones before that have taught."""
    history: int = Field(200_000, ge=50, le=1_000_000_000)
    """Offsets before an epoch that teach its memory; at most an epoch."""
    memory_hours: float = Field(24.0, gt=0, le=100_000)
    """Hours after which half of what is usual for an entity has been learnt anew."""
    memory_records: int = Field(1_000, ge=10, le=10_000_000)
    """Records of an entity after which that is so, where records have no time."""
    horizons: tuple[int, int, int] = (3, 8, 32)
    """Records that the means of an entity's values look back, ascending; the second is 8 at most."""
    grace_ms: int = Field(60_000, ge=0, le=86_400_000)
    """A record older than the newest of its entity by more teaches nothing, milliseconds."""
    cap_ms: int = Field(3_600_000, ge=1_000, le=31_536_000_000)
    """The most that one record moves its entity's clock, milliseconds."""
    tolerance_ms: int = Field(60_000, ge=0, le=86_400_000)
    """An event time further beyond Kafka's timestamp counts as that timestamp and so much, milliseconds."""
    most_entities: int = Field(5_000, ge=1, le=10_000_000)
    """Entities that are remembered in a partition; the one that was seen the longest ago makes room."""
    columns: int = Field(10, ge=2, le=64)
    """Columns of the context that are judged: principal axes of all."""
    warm_records: int = Field(8, ge=1, le=100_000)
    """Records of an entity before its context is judged."""
    new_entity: Literal["usual", "unusual"] = "usual"
    """Whether the first record of an entity is as unusual as first records were in fitting, or says nothing."""

    @model_validator(mode="after")
    def _history_fits(self) -> Self:
        if self.history > self.epoch:
            raise ValueError(f"history {self.history:,} exceeds epoch {self.epoch:,}; give at most the epoch")
        short, medium, long = self.horizons
        if not 1 < short < medium <= min(8, long - 1):
            raise ValueError(f"horizons {[*self.horizons]} are not ascending from 2 on, or the second is over 8")
        return self
