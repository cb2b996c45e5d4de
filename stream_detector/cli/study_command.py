"""The commands `study`, which trains where the truth is known, and `report`, one page about one training."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from stream_detector.cli.common import answers, console, progress_bar
from stream_detector.foreign import printable
from stream_detector.runtime.files import check_target, write_file

__all__ = ["report", "study"]


def study(
    distribution: Annotated[
        str, typer.Option(help="normal, uniform, student, lognormal, mixture, correlated or rings.")
    ] = "correlated",
    architecture: Annotated[str, typer.Option(help="Shape of the networks: mlp, shallow, deep or funnel.")] = "mlp",
    features: Annotated[int, typer.Option(min=1, max=200, help="Features of a record.")] = 2,
    records: Annotated[int, typer.Option(min=100, max=1_000_000, help="Records to train on.")] = 5000,
    steps: Annotated[int, typer.Option(min=100, max=1_000_000, help="Training steps.")] = 4000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    run_dir: Annotated[Path, typer.Option("--run-dir", help="Folder in which the run gets its own.")] = Path("runs"),
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with this interrupted run.")] = None,
) -> None:
    """Trains a plain GAN on a known distribution and shows when its discriminator detects, and when no more."""
    import torch

    from stream_detector.tracking.run_directory import RunDirectory
    from stream_detector.tracking.study import StudySettings
    from stream_detector.tracking.study import study as carry_out

    torch.set_num_threads(1)
    if resume:
        run = RunDirectory.open(resume)
        settings, seed = StudySettings.from_run(run), run.seed
    else:
        settings = StudySettings.checked(distribution, architecture, features, records, steps)
        run = RunDirectory.create(run_dir, settings.to_dict(), seed)
    with progress_bar() as progress:
        spot, findings = carry_out(settings, seed, run, progress)
    table = Table("size", "first step", f"sweet spot ({spot.step:,})", "worst after it", "last step", "true density")
    for one in findings:
        areas = (one.first, one.sweet_spot, one.worst_after, one.last, one.density)
        table.add_row(f"{one.size:g}", *(f"{area:.3f}" for area in areas))
    table.title = "AUC by size of the anomalies, standard deviations"
    answers.print(table)
    console.print(f"run directory: {printable(run.path)}", soft_wrap=True)


def report(
    run: Annotated[Path, typer.Argument(help="Run directory, as `fit --run-dir` and `study` make.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Page to write; default: RUN/report.html.")] = None,
) -> None:
    """Writes one self-contained HTML page: configuration, sweet spot, figures and plots of a training."""
    from stream_detector.tracking.html_report import report as page
    from stream_detector.tracking.run_directory import RunDirectory

    target = out or run / "report.html"
    opened = RunDirectory.open(run)
    check_target(target)
    text = page(opened)
    write_file(target, text.encode())
    console.print(f"wrote {printable(target)}", soft_wrap=True)
