"""What a worker has done so far, as a value that metrics and the command line read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from stream_detector.detector import Outcome

__all__ = ["Observer", "RunSummary", "Tally"]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Committed work only: `normal + flagged + sum(dead_lettered.values()) == records`.

    `dead_lettered` counts by reason code. `recreations` counts producers replaced after an
    outcome in doubt. `restores` counts thresholds rebuilt from the log. `lag` is how many records
    the owned partitions hold beyond the last one taken; `partitions` how many are owned, `warming`
    of how many the threshold still lacks history.
    """

    records: int = 0
    normal: int = 0
    flagged: int = 0
    dead_lettered: Mapping[str, int] = field(default_factory=dict)
    commits: int = 0
    aborts: int = 0
    recreations: int = 0
    restores: int = 0
    rebalances: int = 0
    offsets_lost: int = 0
    lag: int = 0
    partitions: int = 0
    warming: int = 0


class Observer(Protocol):
    """Is told the summary about once a second and at the end, from the worker's thread."""

    def observe(self, summary: RunSummary) -> None: ...


@dataclass(slots=True)
class Tally:
    """Dispositions of one transaction; they count once it is committed."""

    normal: int = 0
    flagged: int = 0
    dead_lettered: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Counts a batch."""
        self.normal += outcome.normal
        self.flagged += len(outcome.alerts)
        self.dead_lettered.update(letter.reason for letter in outcome.dead_letters)

    def merge(self, other: "Tally") -> None:
        """Counts another tally in."""
        self.normal += other.normal
        self.flagged += other.flagged
        self.dead_lettered.update(other.dead_lettered)

    @property
    def records(self) -> int:
        """All records counted."""
        return self.normal + self.flagged + self.dead_lettered.total()
