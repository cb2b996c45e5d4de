"""Telemetry of a small fleet of services, with labelled faults: `python -m producers.simulator`.

The stream is endless, lazy and a pure function of its settings. Labels are never part of the
telemetry: they are handed out beside it, and written to a file only when asked for.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, islice
from pathlib import Path
from typing import IO

import numpy as np

from producers.faults import Fault, distort, plan, record_id
from producers.feed import add_target, feed, settings
from producers.telemetry import CATEGORY, METRICS, Fleet, State
from stream_detector.config import RecordConfig
from stream_detector.errors import ConfigError
from stream_detector.records import telemetry_to_json
from stream_detector.runtime import program

__all__ = ["Sample", "Simulation", "main", "simulate"]

DAY = timedelta(days=1)
START = "2026-01-01T00:00:00+00:00"
ELSEWHERE = 0.45  # how far off in load, in [0, 1], an uncorrelated value lies
BOUNDED = {metric.name: metric.bounded for metric in METRICS}


@dataclass(frozen=True, slots=True)
class Simulation:
    """What to simulate; raises `ConfigError` when a value is out of range.

    `entities` ≥ 1 report in turn, `period` ≥ 8 times a day each. `faults` is the number of faults
    per 1,000 records, on average (0 = all normal, at most 50); none touches the first
    `normal_first` records. A stream of `records` records has no fault that would outlast it. From
    record `release` on, metrics relate to load otherwise than before, for good: concept drift.
    """

    seed: int = 0
    entities: int = 5
    period: int = 1_440
    faults: float = 0.0
    normal_first: int = 0
    records: int | None = None
    start: str = START
    release: int | None = None

    def __post_init__(self) -> None:
        limits = {"seed": (0, 2**63), "entities": (1, 10_000), "period": (8, 86_400_000), "faults": (0, 50)}
        for name, (least, most) in limits.items():
            if not least <= (value := getattr(self, name)) <= most:
                raise ConfigError(f"{name}: {value:,} is out of range; give {least:,} to {most:,}")
        try:
            datetime.fromisoformat(self.start)
        except ValueError:
            raise ConfigError(f"start: {self.start!r} is no RFC 3339 time; write it as {START}") from None


@dataclass(frozen=True, slots=True)
class Sample:
    """One record, and the fault that touches it, if any."""

    id: str
    time: str
    entity: str
    features: dict[str, float | str | None]
    fault: Fault | None

    def to_json(self, record: RecordConfig | None = None) -> bytes:
        """The record as it goes to Kafka, without its label, laid out as `record.*` says."""
        return telemetry_to_json(self.id, self.time, self.entity, self.features, record or RecordConfig())


def simulate(simulation: Simulation) -> Iterator[Sample]:
    """The stream, one record an entity and step; endless when `records` is None.

    With and without faults, records that no fault touches are the same to the byte.
    """
    samples = _samples(simulation)
    return samples if simulation.records is None else islice(samples, simulation.records)


def _samples(simulation: Simulation) -> Iterator[Sample]:
    weather, mischief = (np.random.default_rng(part) for part in np.random.SeedSequence(simulation.seed).spawn(2))
    release = None if simulation.release is None else -(-simulation.release // simulation.entities)
    fleet = Fleet(weather, simulation.entities, simulation.period, release)
    faults = _faults(simulation, mischief, fleet.names)
    coming = next(faults, None)
    active: dict[str, Fault] = {}
    healthy: dict[str, dict[str, float | str]] = {}
    start = datetime.fromisoformat(simulation.start)
    for step in count():
        while coming is not None and coming.start <= step:
            active[coming.entity] = coming
            coming = next(faults, None)
        time = (start + DAY * step / simulation.period).isoformat(timespec="milliseconds")
        for name, normal, elsewhere, missing in _moment(fleet, step):
            fault = active.get(name)
            features = dict(normal)
            if fault is None:
                healthy[name] = normal
            else:
                features |= distort(fault, step, normal, elsewhere, healthy.get(name, normal))
                if step == fault.end:
                    del active[name]
            yield Sample(record_id(name, step), time, name, _reported(features, missing), fault)


def _faults(simulation: Simulation, random: np.random.Generator, entities: Sequence[str]) -> Iterator[Fault]:
    if not simulation.faults:
        return iter(())
    width = len(entities)
    every = 1_000 / simulation.faults / width
    first = -(-simulation.normal_first // width)
    last = None if simulation.records is None else simulation.records // width - 1
    return plan(random, entities, simulation.period, every, first, last)


def _moment(
    fleet: Fleet, step: int
) -> Iterator[tuple[str, dict[str, float | str], dict[str, float | str], frozenset[str]]]:
    """Each entity's healthy features, the same at another hour's load, and what it does not report."""
    state, categories, missing = fleet.advance(step)
    other = np.where(state.load > 0.5, state.load - ELSEWHERE, state.load + ELSEWHERE)
    values = fleet.values(state).tolist()
    shifted = fleet.values(State(other, other, other, state.noise)).tolist()
    names = [metric.name for metric in METRICS]
    for entity, name in enumerate(fleet.names):
        gaps = frozenset(names[column] for column in np.flatnonzero(missing[entity])) if missing.any() else frozenset()
        normal: dict[str, float | str] = dict(zip(names, values[entity], strict=True))
        normal[CATEGORY] = categories[entity]
        yield name, normal, dict(zip(names, shifted[entity], strict=True)), gaps


def _reported(features: dict[str, float | str], missing: frozenset[str]) -> dict[str, float | str | None]:
    return {
        name: None if name in missing else value if isinstance(value, str) else BOUNDED[name](value)
        for name, value in features.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return program.run(lambda: _run(_parser().parse_args(argv)), terminated=0)


def _run(arguments: argparse.Namespace) -> None:
    simulation = Simulation(
        seed=arguments.seed,
        entities=arguments.entities,
        period=arguments.period,
        faults=arguments.faults,
        normal_first=arguments.normal_first,
        records=arguments.records,
        start=arguments.start,
        release=arguments.release,
    )
    config = settings(arguments)
    with ExitStack() as stack:
        labels = stack.enter_context(arguments.labels.open("wb")) if arguments.labels else None
        feed(_fed(simulate(simulation), labels, config.record), arguments, config, total=simulation.records)


def _fed(samples: Iterator[Sample], labels: IO[bytes] | None, record: RecordConfig) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; a fault's label is written when its first record goes out."""
    for sample in samples:
        if labels and sample.fault and sample.id == record_id(sample.entity, sample.fault.start):
            labels.write(sample.fault.to_json() + b"\n")
            labels.flush()
        yield sample.entity.encode(), sample.to_json(record)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m producers.simulator", description=__doc__.split("\n", 1)[0])
    default = Simulation()
    parser.add_argument("--seed", type=int, default=default.seed, help="same seed, same bytes (default 0)")
    parser.add_argument("--records", type=int, help="stop after this many (default: never)")
    parser.add_argument("--entities", type=int, default=default.entities, help="services that report (default 5)")
    parser.add_argument("--period", type=int, default=default.period, help="records of one service a day (1440)")
    parser.add_argument("--faults", type=float, default=0.0, help="faults per 1,000 records (default 0: all normal)")
    parser.add_argument("--normal-first", type=int, default=0, help="records before the first fault may come")
    parser.add_argument("--release", type=int, help="record from which a new release runs: concept drift (never)")
    parser.add_argument("--start", default=START, help=f"event time of the first record (default {START})")
    parser.add_argument("--labels", type=Path, help="file for the faults, one line of JSON each")
    add_target(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
