"""The demo runs a real Kafka, simulated telemetry with labelled faults, a fit and a worker, and shows its alerts.

All but the broker runs in this process, and nothing is left behind: topics, group, broker and
directories go when it ends, on Ctrl-C too.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, current_thread, main_thread
from types import FrameType

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from consumers.alert_view import view
from consumers.tail import alerts
from demo.reckoning import DemoSummary, Reckoning
from producers.faults import Fault, FaultKind
from producers.feed import publish
from producers.simulator import Sample, Simulation, simulate
from stream_detector.config import Config, load_config
from stream_detector.foreign import printable
from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.kafka.follow import follow
from stream_detector.kafka.sandbox import begin_at_end, sandbox
from stream_detector.records import Alert
from stream_detector.registry import store
from stream_detector.retraining.first_fit import fit_topics
from stream_detector.runtime import logs
from stream_detector.runtime.logs import Terminal
from stream_detector.scoring.compiled.cache import announce
from stream_detector.worker import loop
from stream_detector.worker.summary import RunSummary

__all__ = ["CONFIG", "run_demo"]

CONFIG = Path(__file__).with_name("demo.yaml")
NORMAL = 10_000  # records to fit on
LIVE = 10_000  # records to judge
PERIOD = 400  # records of one service a day
FAULTS = 3.0  # per 1,000 live records
STAGES = 6


def run_demo(seed: int = 7, console: Console | None = None) -> DemoSummary:
    """Runs the demo and prints it; the last line reads `records=… faults=… detected=… false_alarms=… alerts=…`.

    Uses the broker at KAFKA_BOOTSTRAP_SERVERS if that is set, else starts one. Raises what the parts
    raise, KeyboardInterrupt on Ctrl-C or SIGTERM; either way nothing is left behind.
    """
    console = console or Terminal()
    base = load_config(CONFIG)
    logs.configure(base.log)
    torch.set_num_threads(max(base.worker.threads, 1))  # two threads that fight for a busy core are slower than one
    announce(lambda what: console.print(f"    {what}"))
    with _terminable(), _torch_cache():
        _stage(
            console,
            1,
            f"Using Kafka at {base.kafka.at(_external()).bootstrap_servers}"
            if _external()
            else "Starting a local Apache Kafka",
        )
        with _broker() as address:
            kafka = base.kafka.at(address)
            with sandbox(base.model_copy(update={"kafka": kafka})) as config:
                summary = _play(config, seed, console)
    console.print(str(summary), soft_wrap=True)
    return summary


def _play(config: Config, seed: int, console: Console) -> DemoSummary:
    topic = config.topics.telemetry[0]
    samples = simulate(Simulation(seed, period=PERIOD, faults=FAULTS, normal_first=NORMAL, records=NORMAL + LIVE))

    _stage(console, 2, f"Simulating five services: {NORMAL:,} normal records to topic {topic!r}")
    labels: dict[str, Fault] = {}
    _feed(config, islice(samples, NORMAL), labels, console)

    _stage(console, 3, "Fitting encoder, generator and discriminator on them")
    with _bar(console, "fitting") as progress:
        model = fit_topics(config, NORMAL, seed, progress)
    pointer = store.publish(config, model.to_bytes(), "demo", "first fit")
    begin_at_end(config)

    _stage(console, 4, f"Model {pointer.version[:12]} is published; {LIVE:,} more records, some of them faulty")
    _feed(config, samples, labels, console)

    _stage(console, 5, "A worker reads, scores, explains and commits; the first alerts of each kind:")
    reckoning = Reckoning(labels)
    with _working(config) as running:
        for alert in _alerts_of(config, running):
            if (said := reckoning.take(alert)) is not None:
                console.print(view(alert), Text(f"   what happened: {said}\n", "green"))
        records = running.result().records
    console.print(f"… and {reckoning.alerts - reckoning.shown.total():,} more alerts")

    _stage(console, 6, "Holding the alerts against the simulator's labels, which the detector never saw")
    console.print(_table(reckoning))
    normal = records - len(reckoning.labels)
    console.print(
        f"{reckoning.false_alarms / max(normal, 1):.2%} of {normal:,} normal records were flagged; "
        f"the target alert rate is {config.threshold.target_alert_rate:.2%}"
    )
    return reckoning.summary(records)


def _feed(config: Config, samples: Iterator[Sample], labels: dict[str, Fault], console: Console) -> None:
    """Sends samples to the telemetry topic; keeps their labels back."""

    def messages(progress: Callable[[int, int, str], None]) -> Iterator[tuple[bytes, bytes]]:
        for number, sample in enumerate(samples):
            if sample.fault:
                labels[sample.id] = sample.fault
            if number % 100 == 0:
                progress(number, LIVE, "")
            yield sample.entity.encode(), sample.to_json()

    with _bar(console, "sending") as progress:
        publish(messages(progress), config.kafka, config.topics.telemetry[0])


@contextmanager
def _working(config: Config) -> Iterator[Future[RunSummary]]:
    """A worker in a thread of its own, until it has judged what is there; told to stop on leaving."""
    stop = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="worker") as pool:
        try:
            yield pool.submit(loop.run, config, until_end=True, stop=stop)
        finally:
            stop.set()


def _alerts_of(config: Config, running: Future[RunSummary]) -> Iterator[Alert]:
    """Alerts as they come, and once the worker is done, those that are left."""
    seen: set[str] = set()
    topic = config.topics.alerts
    for endless in (True, False):
        stop = running.done if endless else _never
        for alert in alerts(follow(config.kafka, topic, from_beginning=True, endless=endless, stop=stop)):
            if alert.id not in seen:
                seen.add(alert.id)
                yield alert


def _never() -> bool:
    return False


def _table(reckoning: Reckoning) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 1))
    for heading, justify in (("fault", "left"), ("happened", "right"), ("detected", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    happened = Counter(fault.kind for fault in reckoning.faults)
    detected = Counter(fault.kind for fault in reckoning.detected)
    for kind in FaultKind:
        table.add_row(kind.value, str(happened[kind]), str(detected[kind]))
    return table


def _stage(console: Console, number: int, what: str) -> None:
    line = Text.assemble((f"{number}/{STAGES}", "bold"), f" {time.strftime('%H:%M:%S')} {printable(what)}")
    console.print(line, soft_wrap=True)


@contextmanager
def _bar(console: Console, what: str) -> Iterator[Callable[[int, int, str], None]]:
    """A callable (done, total, message) that draws a bar on a terminal, and nothing elsewhere."""
    columns = (TextColumn("    {task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total, message: progress.update(
            task, completed=done, total=total, description=message or what
        )


@contextmanager
def _broker() -> Iterator[str]:
    if address := _external():
        yield address
        return
    with EmbeddedBroker() as broker:
        yield broker.bootstrap_servers


def _external() -> str:
    return os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")


@contextmanager
def _torch_cache() -> Iterator[None]:
    """Torch's compiler makes itself a directory even when nothing is compiled; it gets one that goes."""
    with TemporaryDirectory(prefix="stream-detector-demo-") as directory:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", directory)
        yield


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that the broker and its directory go."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
