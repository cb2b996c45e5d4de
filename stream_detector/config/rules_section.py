"""The section `rules` of the configuration: what people want to be told of incidents, and what not."""

from datetime import UTC, datetime, timedelta
from typing import Literal, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from stream_detector.config.sections import Section

__all__ = ["RuleConfig", "WindowConfig"]

LONGEST = timedelta(days=31)


class WindowConfig(Section):
    """Times that come again: each begins when the clocks of a zone match, and lasts a while."""

    cron: str = Field(max_length=200)
    """Minute, hour, day of month, month and weekday of the begin, as in a crontab: `0 2 * * SUN`."""
    lasts: timedelta
    """Seconds, HH:MM:SS or ISO 8601 (PT2H); above 0, at most 31 days."""
    zone: str = "UTC"
    """Time zone of the clocks, such as Europe/Berlin."""

    @field_validator("cron")
    @classmethod
    def _is_crontab(cls, cron: str) -> str:
        try:
            CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(f"is no crontab expression: {error}; write five fields, as in '0 2 * * SUN'") from None
        return cron

    @field_validator("lasts")
    @classmethod
    def _is_limited(cls, span: timedelta) -> timedelta:
        if not timedelta(0) < span <= LONGEST:
            raise ValueError(f"must be above 0 and at most {LONGEST.days} days")
        return span

    @field_validator("zone")
    @classmethod
    def _is_known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ValueError, OSError, KeyError):
            raise ValueError("is no time zone known here; give one such as Europe/Berlin, or UTC") from None
        return zone

    def holds(self, now: datetime) -> bool:
        """Tells whether a moment lies within such a time."""
        local = now.astimezone(ZoneInfo(self.zone)).replace(microsecond=0)
        begun = next(CronSim(self.cron, local + timedelta(seconds=1), reverse=True))
        return now.astimezone(UTC) - begun.astimezone(UTC) < self.lasts


class RuleConfig(Section):
    """What holds for the incidents that all of `topics`, `entities`, `features`, `kinds` and `during` let in.

    Names may hold `*` and `?`; a list left out lets everything in.
    """

    name: str = Field(min_length=1, max_length=200)
    topics: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    kinds: tuple[Literal["record", "silent", "group"], ...] = ()
    during: WindowConfig | None = None
    mute: bool = False
    """Nobody is told."""
    only: Literal["up", "down"] | None = None
    """Nobody is told of the other direction."""
    least_absolute: float | None = Field(None, gt=0)
    """Nobody is told of a value that lies nearer to the expected one, in the feature's units."""
    least_relative: float | None = Field(None, gt=0)
    """As `least_absolute`, as a share of the expected value."""
    severity: Literal["warning", "minor", "major", "critical"] | None = None
    """The severity that is told instead of the incident's own; of several rules the first one counts."""
    route: str | None = Field(None, min_length=1, max_length=200)
    """Who is told; of several rules the first one counts."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.is_muting or self.severity or self.route):
            raise ValueError("does nothing; give mute, only, least_absolute, least_relative, severity or route")
        return self

    @property
    def is_muting(self) -> bool:
        """Tells whether it keeps anything from being told."""
        return self.mute or bool(self.only or self.least_absolute or self.least_relative)
