"""What a worker has done so far, as a value that metrics and the command line read."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # it takes seconds to import, and a listener is there at once
    from stream_detector.detector import Outcome

from stream_detector.records import TopicPartition

__all__ = ["STALL_BUCKETS", "Ledger", "Observer", "RunSummary", "Stalls", "Tally"]

NAMED = 100  # features that are counted by name, which bounds a metric's labels
OTHERS = "(others)"

STALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends, seconds, between which stalls are counted."""


@dataclass(frozen=True, slots=True)
class Stalls:
    """How long changes of the model held up a worker: `counts` by bucket, the last one unbounded, and their sum."""

    counts: tuple[int, ...] = (0,) * (len(STALL_BUCKETS) + 1)
    seconds: float = 0.0

    def plus(self, seconds: float) -> "Stalls":
        """With one more."""
        counts = list(self.counts)
        counts[bisect_left(STALL_BUCKETS, seconds)] += 1
        return Stalls(tuple(counts), self.seconds + seconds)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Committed work only: `normal + flagged + sum(dead_lettered.values()) == records`.

    `dead_lettered` counts by reason code. `recreations` counts producers replaced after an
    outcome in doubt. `restores` counts thresholds rebuilt from the log. `lag` is how many records
    the assigned partitions hold beyond the last one taken, None while that is not known of all;
    `partitions` how many are assigned and read, `warming` of how many the threshold still lacks history.
    `topics_recreated` counts telemetry topics created anew under the same name. `control_events` counts reports of drift
    and of changes of regime. `model` is the version in force, `swaps` the
    changes of it (`swap_stalls`: how long each took), `models_refused` those not fit to serve.
    `outputs_left_out` counts messages that their topic took in no form.
    `missing` counts, by feature, judged records that lacked it; the first 100 features have their
    name, others are together.
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
    topics_recreated: int = 0
    lag: int | None = None
    partitions: int = 0
    warming: int = 0
    model: str = ""
    control_events: int = 0
    outputs_left_out: int = 0
    swaps: int = 0
    models_refused: int = 0
    swap_stalls: Stalls = Stalls()
    missing: Mapping[str, int] = field(default_factory=dict)


class Observer(Protocol):
    """Is told the summary about once a second and at the end, from the worker's thread."""

    def observe(self, summary: RunSummary) -> None: ...


@dataclass(slots=True)
class Tally:
    """Dispositions of one transaction; they count once it is committed."""

    normal: int = 0
    flagged: int = 0
    dead_lettered: Counter[str] = field(default_factory=Counter)
    events: int = 0
    left_out: int = 0
    missing: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: "Outcome", events: int = 0, left_out: int = 0) -> None:
        """Counts a batch, the control events that it gave rise to, and the messages that could not be sent."""
        self.events += events
        self.left_out += left_out
        self.normal += outcome.normal
        self.flagged += len(outcome.alerts)
        self.dead_lettered.update(letter.reason for letter in outcome.dead_letters)
        for judged in outcome.judged:
            for name, rows in judged.missing.items():
                self.missing[name] += len(rows)

    def merge(self, other: "Tally") -> None:
        """Counts another tally in."""
        self.normal += other.normal
        self.flagged += other.flagged
        self.dead_lettered.update(other.dead_lettered)
        self.events += other.events
        self.left_out += other.left_out
        for name, count in other.missing.items():
            self.missing[name if name in self.missing or len(self.missing) < NAMED else OTHERS] += count

    @property
    def records(self) -> int:
        """All records counted."""
        return self.normal + self.flagged + self.dead_lettered.total()


class Ledger:
    """What is committed, beside the open transaction and one in doubt, of which only the broker knows."""

    def __init__(self) -> None:
        self.open, self.done = Tally(), Tally()
        self.commits = self.aborts = 0
        self._doubt: tuple[Mapping[TopicPartition, int], Tally] | None = None

    def summary(self) -> RunSummary:
        """What is committed; the rest is for others to fill in."""
        done = self.done
        return RunSummary(
            records=done.records,
            normal=done.normal,
            flagged=done.flagged,
            dead_lettered=dict(done.dead_lettered),
            commits=self.commits,
            aborts=self.aborts,
            control_events=done.events,
            missing=dict(done.missing),
        )

    def settle(self) -> None:
        """The open transaction is committed."""
        self._count(self.open)
        self.open = Tally()

    def undo(self, offsets: Mapping[TopicPartition, int], *, in_doubt: bool) -> None:
        """The open transaction, which was to commit these offsets, is aborted; or may turn out not to be."""
        if in_doubt and self.open.records:
            self._doubt = offsets, self.open
        self.aborts += 1
        self.open = Tally()

    @property
    def doubtful(self) -> list[TopicPartition]:
        """The partitions of the transaction in doubt."""
        return list(self._doubt[0]) if self._doubt else []

    def resolve(self, held: Mapping[TopicPartition, int]) -> None:
        """Counts the transaction in doubt after all when its offsets turn out to be committed."""
        if self._doubt is None:
            return
        (offsets, tally), self._doubt = self._doubt, None
        if all(held.get(partition, -1) >= offset for partition, offset in offsets.items()):
            self.aborts -= 1
            self._count(tally)

    def _count(self, tally: Tally) -> None:
        self.commits += 1
        self.done.merge(tally)
