"""Tells what a worker has done so far, as a value that metrics and the command line read."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["STALL_BUCKETS", "ContextSummary", "Observer", "RunSummary", "Stalls"]

STALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends, seconds, between which stalls are counted."""


@dataclass(frozen=True, slots=True)
class Stalls:
    """How long changes of the model held up a worker: `counts` by bucket, the last one unbounded, and their sum."""

    counts: tuple[int, ...] = (0,) * (len(STALL_BUCKETS) + 1)
    seconds: float = 0.0

    def plus(self, seconds: float) -> "Stalls":
        """Adds a stall of so many seconds."""
        counts = list(self.counts)
        counts[bisect_left(STALL_BUCKETS, seconds)] += 1
        return Stalls(tuple(counts), self.seconds + seconds)


@dataclass(frozen=True, slots=True)
class ContextSummary:
    """What a worker remembers of entities, in all its partitions: `entities`, `bytes` of both tables, and of how many
    partitions the log holds too little. `counts` are of records committed: all, by kind, and the evictions they caused.
    """

    entities: int
    bytes: int
    partial_partitions: int
    counts: Mapping[str, int]


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
    name, others are together. `context` is None where the model judges records alone.
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
    context: ContextSummary | None = None


class Observer(Protocol):
    """Is told the summary about once a second and at the end, from the worker's thread."""

    def observe(self, summary: RunSummary) -> None: ...
