"""Parts that several commands share: options, the configuration, progress, output, signals."""

import os
import signal
import sys
from _thread import start_new_thread
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from stream_detector.config import Config, Key, load_config
from stream_detector.foreign import printable
from stream_detector.runtime import logs
from stream_detector.runtime.logs import Terminal

__all__ = [
    "ConfigOption",
    "WhyOption",
    "answers",
    "console",
    "operator",
    "prepare_scoring",
    "progress_bar",
    "settings",
    "show_features",
    "stop_on_signal",
]

console = Terminal(stderr=True)
"""For what happens on the way; it never mixes with an answer."""
answers = Terminal()
"""For what was asked for, on standard output, so that it can be piped."""

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file (YAML); without one, the defaults serve.")
]
WhyOption = Annotated[str, typer.Option("--why", help="Reason kept beside the pointer.")]


def settings(path: Path | None) -> Config:
    """Loads the configuration at `path`, and sets logs up by it."""
    config = load_config(path, _client_faults)
    logs.configure(config.log)
    return config


def _client_faults(config: Config) -> Iterable[tuple[Key, str]]:
    """Yields what the clients say of their properties; without properties the clients are not loaded."""
    if not config.kafka.properties and not config.record.registry_properties:
        return ()
    from stream_detector.kafka.properties import faults

    return faults(config)


def prepare_scoring(config: Config) -> None:
    """Gives torch its threads, because two that fight for one busy core are far slower than one; says once when
    scoring has to be compiled first.
    """
    import torch

    from stream_detector.scoring.compiled.cache import announce

    torch.set_num_threads(config.worker.threads or os.cpu_count() or 1)
    announce(console.print)


def operator() -> str:
    """The name of the user who runs this command, for the model pointer."""
    try:
        return getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid-{os.getuid()}"


def stop_on_signal() -> Event:
    """Makes an event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    stop = Event()

    def request(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        # Beside this thread, which may hold the event's lock: interrupted where it waits, it would wait for itself.
        start_new_thread(stop.set, ())

    signal.signal(signal.SIGINT, request)
    signal.signal(signal.SIGTERM, request)
    return stop


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A callable (step, total, message) that draws a bar on a terminal, and a line a tenth elsewhere."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("starting", total=None)
        yield lambda step, total, message: progress.update(
            task, completed=step, total=total, description=printable(message)
        )


def _lines() -> Callable[[int, int, str], None]:
    shown = -1

    def report(step: int, total: int, message: str) -> None:
        nonlocal shown
        tenth = 10 * step // max(total, 1)
        if tenth != shown:
            shown = tenth
            console.print(f"{10 * tenth:3d} % {printable(message)}", soft_wrap=True)

    return report


def show_features(lineage: Mapping[str, Any]) -> None:
    """Shows on standard output what a model's lineage says of how its records were read, of its features, and of what was left out and why."""
    for remark in lineage.get("read", ()):
        answers.print(printable(remark))
    table = Table("feature", "kind", "coverage", "distinct", "range", "note", title="features")
    for each in lineage.get("features", ()):
        table.add_row(*map(printable, (each["name"], each["kind"], *_figures(each), each["note"])))
    answers.print(table)
    if context := lineage.get("context"):
        answers.print(printable(_context(context)), soft_wrap=True)
    if left_out := lineage.get("not_features"):
        reasons = Table("left out", "why")
        for name, why in left_out.items():
            reasons.add_row(printable(name), printable(why))
        answers.print(reasons)


def _context(told: Mapping[str, Any]) -> str:
    """What a lineage says of contexts, in words."""
    entity = (
        f"entity column {told['entity']!r}" if told["entity"] else "no entity column, so that a partition is one entity"
    )
    time = f"time column {told['time']!r}" if told["time"] else "no time column, so that there is no calendar"
    if told["time"] and not told["timed"]:
        time += ", in which no record has a time"
    full = f"{told['full']:,} of {told['records']:,} records had full context"
    return f"context: {entity}, {time}, {told['entities']:,} entities, {full}"


def _figures(each: Mapping[str, Any]) -> tuple[str, str, str]:
    span = "" if each["low"] is None else f"{each['low']:.6g} to {each['high']:.6g}"
    return f"{each['coverage']:.1%}", f"{each['distinct']:,}", span
