"""Compares a judgement made again with the one on record; pure, no I/O."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import isclose
from typing import Any

from stream_detector.records import Alert, Contribution, DeadLetter

__all__ = ["Difference", "Judgement", "differences"]

UNCOMPARED = {"detection_time", "contributions"}
CLOSE = 1e-5  # relative; an explanation is rounded to 6 digits, a score is not to differ at all
THRESHOLD = {"disposition", "threshold", "threshold_state", "severity"}


@dataclass(frozen=True, slots=True)
class Judgement:
    """Holds what one model says of one record: `account` reads like an alert, whether or not it is one.

    A record that is normal has severity `none`; one that cannot be used has a dead letter instead.
    `history` counts the scores that its threshold was made of, `whole` says whether the log still
    held all that belong into it; `in_context` says the same of what its entity did before.
    """

    account: Alert | DeadLetter
    flagged: bool
    history: int
    whole: bool
    in_context: bool = True

    @property
    def disposition(self) -> str:
        """Says `flagged`, `normal` or `dead-lettered`."""
        if isinstance(self.account, DeadLetter):
            return "dead-lettered"
        return "flagged" if self.flagged else "normal"


@dataclass(frozen=True, slots=True)
class Difference:
    """Holds one field of an alert that came out otherwise: what is on record, and what it is now."""

    field: str
    recorded: Any
    repeated: Any

    @property
    def of_threshold(self) -> bool:
        """Tells whether a threshold made of fewer scores explains the difference."""
        return self.field in THRESHOLD


def differences(recorded: Alert, repeated: Judgement) -> list[Difference]:
    """Lists every field in which the repeated judgement is not what the alert says; empty when they match.

    Times of detection always differ, and are left out.
    """
    found = [Difference("disposition", "flagged", repeated.disposition)] if not repeated.flagged else []
    account = repeated.account
    if isinstance(account, DeadLetter):
        return found
    for name in (field.name for field in fields(Alert) if field.name not in UNCOMPARED):
        one, other = getattr(recorded, name), getattr(account, name)
        if one != other and not (name == "severity" and not repeated.flagged):
            found.append(Difference(name, one, other))
    return found + list(_of_features(recorded.contributions, account.contributions))


def _of_features(recorded: tuple[Contribution, ...], repeated: tuple[Contribution, ...]) -> Iterator[Difference]:
    before, after = ({each.feature: each for each in each_time} for each_time in (recorded, repeated))
    for name in dict.fromkeys((*before, *after)):
        one, other = before.get(name), after.get(name)
        if one is None or other is None:
            yield Difference(f"features.{name}", one, other)
            continue
        for part in ("value", "expected", "contribution", "direction"):
            if not _same(getattr(one, part), getattr(other, part)):
                yield Difference(f"features.{name}.{part}", getattr(one, part), getattr(other, part))


def _same(one: float | str | None, other: float | str | None) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
    return one == other
