"""The section `retrain` of the configuration, with its gate."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["GateSettings", "Interval", "RetrainSettings"]


class Strict(BaseModel):
    """Settings that are immutable, strict about their keys, and documented by docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Interval(Strict):
    """A stretch of time that nothing is learnt from; times without a zone are UTC."""

    begin: datetime
    end: datetime

    @field_validator("begin", "end")
    @classmethod
    def _in_utc(cls, moment: datetime) -> datetime:
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _runs_forward(self) -> Self:
        if self.begin >= self.end:
            raise ValueError("begin must be before end")
        return self


class GateSettings(Strict):
    """The limits that a challenger must keep before it replaces the champion."""

    reference: Path | None = None
    """Frozen records with a column `label` (1 = anomaly, 0 = normal), kept by the operator; .csv, .parquet or .npz."""
    rate_factor: float = Field(3.0, ge=1, le=1_000)
    """The alert rate on the hold-out may be this many times above or below the target."""
    least_auc: float = Field(0.6, ge=0, le=1)
    """Least area under the ROC curve for synthetic anomalies."""
    auc_margin: float = Field(0.02, ge=0, le=1)
    """How far that area may fall below the champion's."""
    detection_margin: float = Field(0.05, ge=0, le=1)
    """How far the detected share of known and of reference anomalies may fall below the champion's."""
    kept_since_approval: float = Field(0.95, ge=0, le=1)
    """Least share of the reference detection at the last approval by a person."""
    least_coverage: float = Field(0.1, ge=0, le=1)
    """Least share of hold-out records that a generator's records come near."""
    threshold_move: float = Field(1.5, gt=0, le=100)
    """Largest move of the alert threshold against the champion, nines."""
    threshold_move_since_approval: float = Field(2.0, gt=0, le=100)
    """The same against the model that a person approved last, nines."""


class RetrainSettings(Strict):
    """The times and the data of retraining, and the folder of its runs."""

    every: timedelta | None = None
    """Time between two retrainings: seconds, HH:MM:SS or ISO 8601 (PT6H); null = only on drift."""
    on_drift: bool = True
    """Retrain when a worker reports drift."""
    cooldown: timedelta = timedelta(hours=1)
    """Drift is not acted on for this long after a retraining."""
    records: int = Field(50_000, ge=100, le=5_000_000)
    """Most records in the window; they are held in memory, about 2 kB each."""
    since: timedelta | None = None
    """Only records as young as this; null = as many as `records` allows."""
    least_records: int = Field(1_000, ge=100)
    """Fewest normal records to retrain on; after drift, as many are waited for."""
    guard_band: float = Field(3.0, ge=1, le=1_000)
    """Records that the champion scores beyond the quantile of target_alert_rate x this are not learnt from."""
    most_doubtful: float = Field(0.2, ge=0, le=0.9)
    """Most records, as a share, that alerts and guard band may take; if they ask for more, the champion is out of date."""
    entity_share: float = Field(0.25, gt=0, le=1)
    """Largest share of the window that one entity may have, where there are entities enough."""
    exclude: tuple[Interval, ...] = ()
    """Intervals that nothing is learnt from: incidents, tests."""
    runs: Path = Path("runs")
    """Folder of the run directories."""
    runs_kept: int = Field(20, ge=1)
    """Ended retrainings of which the run directories are kept there, the newest."""
    gate: GateSettings = GateSettings()

    @model_validator(mode="after")
    def _window_holds_enough(self) -> Self:
        if self.least_records > self.records:
            raise ValueError(f"least_records {self.least_records:,} exceeds records {self.records:,}")
        return self

    @field_validator("every", "since", "cooldown")
    @classmethod
    def _not_negative(cls, span: timedelta | None) -> timedelta | None:
        if span is not None and span < timedelta(0):
            raise ValueError("must not be negative")
        return span
