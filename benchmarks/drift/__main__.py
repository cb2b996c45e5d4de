"""`make bench-drift`: a fleet gets a new release under a running detector, which has to learn it.

A real broker, two workers and the retraining service as processes of their own, a live stream with
labelled faults. The release raises the alert rate; a worker reports drift; the service retrains,
the gate lets the model through, both workers swap it in under load. Ends with 1 when a promise fails.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import inf
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import numpy as np
import torch

from benchmarks.drift.dispositions import dispositions
from benchmarks.drift.figures import Phase, Span, phases, sightings
from benchmarks.drift.operation import WORKERS, operate, say
from benchmarks.drift.plot import plot
from benchmarks.drift.report import page
from benchmarks.drift.traffic import Script, Traffic, step_of
from stream_detector.config import Config, load_config
from stream_detector.errors import StreamDetectorError
from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.kafka.sandbox import sandbox

CONFIG = Path(__file__).with_name("drift.yaml")
RESULTS = Path(__file__).parents[1] / "results"
MANY = 3.0  # times the target: what drift must raise the alert rate to
TOLERANCE = 0.3  # of the target: how far the alert rate may be from it afterwards


def main() -> int:
    """The benchmark; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=0, help="of the stream and of all fits (default 0)")
    parser.add_argument("--keep", action="store_true", help="keep the logs, and name their folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        return _measure(Script(arguments.seed), keep=arguments.keep)
    except StreamDetectorError as error:
        print(f"!!! error: {error}", file=sys.stderr)
        return 1


def _measure(script: Script, *, keep: bool) -> int:
    traffic = Traffic(script)
    with _folder(keep=keep) as folder, _sandbox(script, folder) as config:
        operation = operate(config, traffic, folder)
        say("judging the whole log again")
        done = dispositions(config, operation.starts)
        seen = sightings(config, operation.starts, done)
        swaps = {partition: _span(models, operation.champion) for partition, models in done.models.items()}
        found = phases(seen, traffic.labels, script.release_step, swaps)
        steps = {f"{each.partition}": step_of(each.id) for each in seen if each.offset in swaps[each.partition]}
        target = config.threshold.target_alert_rate
        plot(seen, traffic.labels, script.release_step, steps, target, RESULTS / "drift.png")
    stalls = [swap.stall_ms for swap in operation.swaps]
    p99 = float(np.percentile(stalls, 99)) if stalls else float("nan")
    line = (
        f"before_rate={found['before'].rate:.4f} drift_rate={found['drift'].rate:.4f} "
        f"after_rate={found['after'].rate:.4f} before_recall={found['before'].recall:.4f} "
        f"after_recall={found['after'].recall:.4f} swap_stall_ms_p99={p99:.1f} "
        f"lost={done.lost} duplicated={done.duplicated} replay_mismatch={done.mismatched}"
    )
    broken = list(_broken(found, target, {swap.worker for swap in operation.swaps}, done.faults))
    text = page(script, target, found, operation, line, broken)
    (RESULTS / "drift.md").write_text(text, encoding="utf-8")
    print(text)
    for promise in (*done.examples, *broken):
        print(f"!!! {promise}", file=sys.stderr)
    print(line)
    return int(bool(broken))


def _broken(found: dict[str, Phase], target: float, swapped: set[str], faults: int) -> Iterator[str]:
    """The promises that were not kept."""
    if found["drift"].rate < MANY * target:
        yield f"the drift raised the alert rate to {found['drift'].rate:.2%} only, less than {MANY:g} times the target"
    if abs(found["after"].rate - target) > TOLERANCE * target:
        yield f"the alert rate afterwards, {found['after'].rate:.2%}, is not within {TOLERANCE:.0%} of {target:.2%}"
    if found["after"].recall < found["before"].recall:
        yield f"{found['after'].recall:.1%} of the faults are detected afterwards, {found['before'].recall:.1%} before"
    if not found["before"].faults or not found["after"].faults:
        yield "there was no fault to detect"
    if missing := set(WORKERS) - swapped:
        yield f"no swap in worker {', '.join(sorted(missing))}"
    if faults:
        yield "records were lost, disposed of twice, or judged otherwise when replayed"


def _span(models: Sequence[tuple[int, str]], champion: str) -> Span:
    """The offsets from which a partition was judged by the first, and by the last, model after the champion."""
    versions = [version for _, version in models]
    later = models[versions.index(champion) + 1 :] if champion in versions else models
    return (later[0][0], later[-1][0]) if later else (inf, inf)


@contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """A place for configuration, logs and run directories."""
    folder = Path(mkdtemp(prefix="bench-drift-"))
    try:
        yield folder
    finally:
        if keep:
            say(f"logs are kept in {folder}")
        else:
            rmtree(folder)


@contextmanager
def _sandbox(script: Script, folder: Path) -> Iterator[Config]:
    """The configuration on the broker at KAFKA_BOOTSTRAP_SERVERS, or on one of its own, under names of its own."""
    base = load_config(CONFIG)
    base = base.model_copy(
        update={"seed": script.seed, "retrain": base.retrain.model_copy(update={"runs": folder / "runs"})}
    )
    with ExitStack() as stack:
        address = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or stack.enter_context(EmbeddedBroker()).bootstrap_servers
        kafka = base.kafka.model_copy(update={"bootstrap_servers": address})
        yield stack.enter_context(sandbox(base.model_copy(update={"kafka": kafka})))


if __name__ == "__main__":
    sys.exit(main())
