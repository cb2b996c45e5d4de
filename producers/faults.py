"""Labelled faults: what goes wrong, where, for how long, and how it changes the metrics.

Sizes are modest on purpose: a drift ends, and a spike reaches, a few daily spreads away; a stuck or
uncorrelated value stays within what the metric does every day, and only its company gives it away.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from producers.telemetry import CATEGORY, METRICS

__all__ = ["Fault", "FaultKind", "distort", "plan", "record_id"]

Values = dict[str, float | str]


class FaultKind(StrEnum):
    """What a fault does to its features."""

    SPIKE = "spike"  # far above the usual, for a few records
    DRIFT = "drift"  # a slow ramp away from the usual
    STUCK = "stuck"  # frozen while its correlates move
    CORRELATION = "correlation"  # at the level of another hour: ordinary by itself, not with the rest
    CATEGORY = "category"  # a value no one has seen before


PLACES: dict[FaultKind, tuple[tuple[str, ...], ...]] = {
    FaultKind.SPIKE: (("latency_ms",), ("error_percent",), ("queue_depth", "latency_ms"), ("disk_io_mb_s",)),
    FaultKind.DRIFT: (("memory_mb",), ("temperature_c",), ("latency_ms",), ("error_percent",)),
    FaultKind.STUCK: (("cpu_percent",), ("requests_per_s",), ("network_mb_s",), ("latency_ms",)),
    FaultKind.CORRELATION: (("cpu_percent",), ("requests_per_s",), ("network_mb_s",), ("disk_io_mb_s",)),
    FaultKind.CATEGORY: ((CATEGORY,),),
}
RECORDS = {  # shortest and longest, records of one entity
    FaultKind.SPIKE: (2, 6),
    FaultKind.DRIFT: (40, 80),
    FaultKind.CORRELATION: (8, 24),
    FaultKind.CATEGORY: (2, 8),
}
STUCK_DAYS = (0.4, 0.8)  # a frozen value looks right until its company has moved on
SIZE = {FaultKind.SPIKE: (3.0, 6.0), FaultKind.DRIFT: (3.0, 5.0)}  # in daily spreads
UNSEEN = ("unresponsive", "crash-loop", "read-only")
SPREADS = {metric.name: metric.spread for metric in METRICS}


@dataclass(frozen=True, slots=True)
class Fault:
    """One labelled fault: steps `start` to `end` (both included) of one entity's records.

    `size` is in daily spreads for a spike or drift; `category` is what an unseen category reads.
    """

    kind: FaultKind
    entity: str
    features: tuple[str, ...]
    start: int
    end: int
    size: float
    category: str

    @property
    def records(self) -> int:
        """How many records it touches."""
        return self.end - self.start + 1

    def to_json(self) -> bytes:
        """The label as one line of JSON."""
        label = {
            "kind": self.kind,
            "entity": self.entity,
            "features": self.features,
            "first": record_id(self.entity, self.start),
            "last": record_id(self.entity, self.end),
            "records": self.records,
        }
        return json.dumps(label).encode()


def record_id(entity: str, step: int) -> str:
    """The id of an entity's record, unique over the stream."""
    return f"{entity}-{step:07d}"


def plan(
    random: np.random.Generator, entities: Sequence[str], period: int, every: float, first: int, last: int | None
) -> Iterator[Fault]:
    """Faults by start, about one every `every` steps, kinds in turn, never two at once on an entity.

    A day has `period` steps. All faults lie within steps `first` to `last` (None: for ever), and an
    entity rests after a fault for as long as it lasted.
    """
    free = dict.fromkeys(entities, first)
    step = float(first)
    for kind in _in_turn(random):
        step += every * random.uniform(0.5, 1.5)
        if last is not None and step > last:
            return
        fault = _draw(random, kind, entities[int(random.integers(len(entities)))], int(step), period)
        if fault.start < free[fault.entity] or (last is not None and fault.end > last):
            continue
        free[fault.entity] = fault.end + 1 + fault.records
        yield fault


def _in_turn(random: np.random.Generator) -> Iterator[FaultKind]:
    while True:
        yield from (list(FaultKind)[i] for i in random.permutation(len(FaultKind)))


def _draw(random: np.random.Generator, kind: FaultKind, entity: str, start: int, period: int) -> Fault:
    places = PLACES[kind]
    shortest, longest = RECORDS.get(kind) or (max(2, round(days * period)) for days in STUCK_DAYS)
    least, most = SIZE.get(kind, (0.0, 0.0))
    return Fault(
        kind,
        entity,
        places[int(random.integers(len(places)))],
        start,
        start + int(random.integers(shortest, longest + 1)) - 1,
        float(random.uniform(least, most)),
        UNSEEN[int(random.integers(len(UNSEEN)))],
    )


def distort(fault: Fault, step: int, normal: Values, elsewhere: Values, before: Values) -> Values:
    """The fault's features as it leaves them at `step`, before rounding.

    `normal` is what the record would read without it, `elsewhere` the same at another hour's load,
    `before` the entity's last healthy record.
    """
    if fault.kind is FaultKind.CATEGORY:
        return dict.fromkeys(fault.features, fault.category)
    source = {FaultKind.STUCK: before, FaultKind.CORRELATION: elsewhere}.get(fault.kind, normal)
    ramp = (step - fault.start + 1) / fault.records if fault.kind is FaultKind.DRIFT else 1.0
    shift = fault.size * ramp
    return {name: float(source[name]) + shift * SPREADS[name] for name in fault.features}
