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
from dataclasses import dataclass
from math import inf
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import numpy as np
import torch

from benchmarks.drift.cause import cause, is_after
from benchmarks.drift.dispositions import dispositions
from benchmarks.drift.figures import Span, phases, sightings
from benchmarks.drift.operation import operate, say
from benchmarks.drift.plot import plot
from benchmarks.drift.promises import broken_promises
from benchmarks.drift.report import others, page
from benchmarks.drift.traffic import Script, Traffic, step_of
from stream_detector.config import Config, load_config
from stream_detector.errors import StreamDetectorError
from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.kafka.sandbox import sandbox

CONFIG = Path(__file__).with_name("drift.yaml")
RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True, slots=True)
class Result:
    """What one seed gave: its figures in one line, the page about it, and the promises that were not kept."""

    line: str
    text: str
    broken: Sequence[str]


def main() -> int:
    """The benchmark; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__.split("\n", 1)[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, default=0, help="of the stream and of all fits (default 0)")
    which.add_argument("--seeds", type=int, nargs="+", help="several, one after the other; the first has the page")
    parser.add_argument("--keep", action="store_true", help="keep the logs, and name their folders")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = arguments.seeds or [arguments.seed]
    images = (RESULTS / "drift.png", *[None] * len(seeds))
    results = {seed: _tried(seed, image, keep=arguments.keep) for seed, image in zip(seeds, images, strict=False)}
    text = results[seeds[0]].text + others({seed: result.line for seed, result in results.items()})
    if results[seeds[0]].text:
        (RESULTS / "drift.md").write_text(text, encoding="utf-8")
    print(text)
    for seed, result in results.items():
        for promise in result.broken:
            print(f"!!! seed {seed}: {promise}", file=sys.stderr)
    for seed, result in results.items():
        print(result.line if len(seeds) == 1 else f"seed={seed} {result.line}")
    return int(any(result.broken for result in results.values()))


def _tried(seed: int, image: Path | None, *, keep: bool) -> Result:
    """One seed's result; an error is a promise not kept, and leaves the other seeds their turn."""
    try:
        return _measure(Script(seed), image, keep=keep)
    except StreamDetectorError as error:
        return Result("failed", "", [str(error)])


def _measure(script: Script, image: Path | None, *, keep: bool) -> Result:
    traffic = Traffic(script)
    with _folder(keep=keep) as folder, _sandbox(script, folder) as config:
        operation = operate(config, traffic, folder)
        say("judging the whole log again")
        event = cause(config, operation.champion)
        done = dispositions(config, operation.starts)
        seen = sightings(config, operation.starts, done)
        swaps = {partition: _span(models, operation.champion) for partition, models in done.models.items()}
        found = phases(seen, traffic.labels, script.release_step, swaps)
        steps = {f"{each.partition}": step_of(each.id) for each in seen if each.offset in swaps[each.partition]}
        target = config.threshold.target_alert_rate
        if image is not None:
            plot(seen, traffic.labels, script.release_step, steps, target, image)
    say(f"retrained because of {event.kind} at {event.record}" if event else "not retrained because of an event")
    stalls = [swap.stall_ms for swap in operation.swaps]
    p99 = float(np.percentile(stalls, 99)) if stalls else float("nan")
    line = (
        f"before_rate={found['before'].rate:.4f} drift_rate={found['drift'].rate:.4f} "
        f"after_rate={found['after'].rate:.4f} before_recall={found['before'].recall:.4f} "
        f"after_recall={found['after'].recall:.4f} swap_stall_ms_p99={p99:.1f} "
        f"lost={done.lost} duplicated={done.duplicated} replay_mismatch={done.mismatched}"
    )
    released = event is not None and is_after(event, seen, script.release_step)
    broken = [*broken_promises(found, target, {swap.worker for swap in operation.swaps}, done, caused=released)]
    return Result(line, page(script, target, found, operation, line, broken), [*done.examples, *broken])


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
