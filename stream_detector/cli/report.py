"""`report`: one page about one training."""

from pathlib import Path
from typing import Annotated

import typer

from stream_detector.cli.common import console
from stream_detector.foreign import printable
from stream_detector.runtime.files import check_target, write_file

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(help="Run directory, as `fit --run-dir` and `study` make.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Page to write; default: RUN/report.html.")] = None,
) -> None:
    """Writes one self-contained HTML page: configuration, sweet spot, figures and plots of a training."""
    from stream_detector.tracking.report import report as page
    from stream_detector.tracking.run_directory import RunDirectory

    target = out or run / "report.html"
    opened = RunDirectory.open(run)
    check_target(target)
    text = page(opened)
    write_file(target, text.encode())
    console.print(f"wrote {printable(target)}", soft_wrap=True)
