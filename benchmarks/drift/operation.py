"""The live part: programs that run beside each other while the stream goes on, as in an operation."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.drift.programs import Program, run, started
from benchmarks.drift.traffic import Traffic
from stream_detector.config import Config
from stream_detector.errors import StreamDetectorError
from stream_detector.kafka import topics
from stream_detector.kafka.group import progress
from stream_detector.kafka.sandbox import begin_at_end
from stream_detector.records import TopicPartition
from stream_detector.registry import store
from stream_detector.registry.model_pointer import Pointer

__all__ = ["WORKERS", "Operation", "Swap", "operate", "say"]

WORKERS = ("one", "two")
REPLACED = 4  # models after the release, until one stays
LOOK = 0.5  # seconds between two looks
READY, RETRAINED, CAUGHT_UP = 120.0, 900.0, 300.0  # seconds that these may take


@dataclass(frozen=True, slots=True)
class Swap:
    """One worker's change of model, as it logged it."""

    worker: str
    version: str
    stall_ms: float


@dataclass(frozen=True, slots=True)
class Operation:
    """What the live part left behind: offsets it began at, the model in force at the release, the one
    that came after it and why, what the retraining service said, and all swaps.
    """

    starts: dict[TopicPartition, int]
    champion: str
    challenger: str
    why: str
    gate: str
    swaps: list[Swap]


def operate(config: Config, traffic: Traffic, folder: Path) -> Operation:
    """The live part: from the first fit to the last committed record after the swap."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    script = traffic.script
    say(f"{script.normal:,} normal records, and a first fit on them")
    traffic.begin(config)
    run(folder, "fit", "fit", "--from-topic", "--records", str(script.normal), "--publish", "-c", str(path))
    begin_at_end(config)
    starts = topics.end_offsets(config.kafka, config.topics.telemetry)
    with ExitStack() as stack:
        workers = [stack.enter_context(started(folder, f"worker-{n}", "run", "-c", str(path), slot=n)) for n in WORKERS]
        service = stack.enter_context(started(folder, "retrain", "retrain", "-c", str(path)))
        wait = Wait((*workers, service))
        wait.until(lambda: all(worker.events("partitions assigned") for worker in workers), READY, "both workers")
        say(f"two workers run; {script.rate:,.0f} records/s, the release comes after {script.before:,} records")
        with traffic.running(config):
            wait.until(lambda: traffic.sent >= script.normal + script.before, _time(script.before), "the release")
            champion = store.current(config)
            say("released; now drift is to be noticed, a model trained, tried by the gate and swapped in")
            wait.until(lambda: _version(config) != _version_of(champion), RETRAINED, "a new model")
            if not any(_settled(config, workers, wait, traffic) for _ in range(REPLACED)):
                raise StreamDetectorError(f"the model was replaced {REPLACED} times and does not settle")
        wait.until(lambda: not any(each.lag for each in progress(config)), CAUGHT_UP, "the end of the stream")
        challenger = store.current(config)
        assert champion, "the first fit was published"
        assert challenger, "a second one came"
        return Operation(
            starts,
            champion.version,
            challenger.version,
            challenger.why,
            service.out.read_text(encoding="utf-8"),
            [swap for worker in workers for swap in _swaps(worker)],
        )


def _settled(config: Config, workers: Sequence[Program], wait: "Wait", traffic: Traffic) -> bool:
    """Whether both workers took the current model up and kept it for as many records as the script says.

    When it is replaced before, the count begins anew with the next call.
    """
    version = _version(config)
    say(f"model {version[:12]} is current")
    wait.until(lambda: _version(config) != version or all(map(_serves(version), workers)), READY, "both swaps")
    say(f"both workers have it; {traffic.script.after:,} more records")
    enough = traffic.sent + traffic.script.after
    limit = _time(traffic.script.after)
    wait.until(lambda: _version(config) != version or traffic.sent >= enough, limit, "the records after the swap")
    return _version(config) == version


def _serves(version: str) -> Callable[[Program], bool]:
    return lambda worker: any(swap.version == version for swap in _swaps(worker))


@dataclass(frozen=True, slots=True)
class Wait:
    """Waits for what the programs are to bring about, as long as they live."""

    programs: tuple[Program, ...]

    def until(self, holds: Callable[[], bool], limit: float, what: str) -> None:
        """Returns once it holds; raises after `limit` seconds, or when a program has ended."""
        deadline = time.monotonic() + limit
        while not holds():
            for program in self.programs:
                program.require_alive()
            if time.monotonic() > deadline:
                tails = "\n".join(f"{program.name}:\n{program.tail()}" for program in self.programs)
                raise StreamDetectorError(f"{what}: waited {limit:.0f} s in vain\n{tails}")
            time.sleep(LOOK)


def _swaps(worker: Program) -> list[Swap]:
    return [
        Swap(worker.name.removeprefix("worker-"), entry["version"], float(entry["stall_ms"]))
        for entry in worker.events("model")
        if "stall_ms" in entry
    ]


def _version(config: Config) -> str:
    return _version_of(store.current(config))


def _version_of(pointer: Pointer | None) -> str:
    return pointer.version if pointer else ""


def _time(records: int) -> float:
    """Long enough to send them, on a slow machine too."""
    return 60 + records / 100


def say(what: str) -> None:
    """One line of progress on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)
