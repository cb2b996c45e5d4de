"""The command `retrain`: once, or as a service that retrains by the clock and on drift."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from stream_detector.cli.common import (
    ConfigOption,
    answers,
    console,
    operator,
    prepare_scoring,
    progress_bar,
    settings,
    show_features,
    stop_on_signal,
)
from stream_detector.config import Config
from stream_detector.errors import ConfigError
from stream_detector.foreign import printable

if TYPE_CHECKING:
    from stream_detector.retraining.job import RetrainingResult

__all__ = ["retrain"]


def retrain(
    config: ConfigOption = None,
    once: Annotated[
        bool, typer.Option("--once", help="Retrain now, then end; 7 = the gate refused the model.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --once: train and judge, but publish nothing.")
    ] = False,
    repeat: Annotated[
        Path | None,
        typer.Option("--repeat", help="Run directory of a retraining: train it again and compare versions."),
    ] = None,
    why: Annotated[str, typer.Option("--why", help="With --once: reason kept beside the pointer.")] = "asked for",
) -> None:
    """Retrains on recent normal telemetry, and publishes the model if the gate lets it through."""
    if dry_run and not once:
        raise ConfigError("--dry-run goes with --once; a service that publishes nothing would train in vain")
    configuration = settings(config)
    prepare_scoring(configuration)
    from stream_detector.retraining.job import Trigger
    from stream_detector.retraining.job import retrain as retrain_once
    from stream_detector.retraining.service import interruptible, serve

    stop = stop_on_signal()
    if repeat is not None:
        _repeat(configuration, repeat, stop)
        return
    if not once:
        serve(configuration, operator(), stop, progress_bar, show)
        return
    with progress_bar() as progress:
        outcome = retrain_once(
            configuration, Trigger(why), operator(), interruptible(progress, stop), publish=not dry_run
        )
    show(outcome)
    if not outcome.gate.passed:
        raise outcome.refusal()


def _repeat(configuration: Config, folder: Path, stop: Event) -> None:
    from stream_detector.retraining.job import repeat
    from stream_detector.retraining.service import interruptible

    with progress_bar() as progress:
        version = repeat(configuration, folder, interruptible(progress, stop))
    answers.print(f"match: version {version}", soft_wrap=True)


def show(outcome: "RetrainingResult") -> None:
    """Shows the gate's figures and what became of the model, on standard output."""
    from stream_detector.retraining.report import limit

    show_features(outcome.model.lineage)
    narrow = (Column(name, no_wrap=True) for name in ("check", "figure", "limit", ""))
    table = Table(*narrow, Column("what it is", min_width=20))
    for check in outcome.gate.checks:
        table.add_row(
            check.name, f"{check.figure:.4g}", limit(check), "passed" if check.passed else "FAILED", check.meaning
        )
    for other in outcome.gate.unchecked:
        table.add_row(other.name, "", "", "not checked", other.why)
    answers.print(table)
    console.print(f"run directory: {printable(outcome.run.path)}", soft_wrap=True)
    if outcome.published:
        console.print(f"published as current: version {outcome.model.version}", soft_wrap=True)
    elif outcome.gate.passed:
        console.print(f"not published (--dry-run): version {outcome.model.version}", soft_wrap=True)
