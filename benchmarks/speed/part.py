"""What a part of the benchmark gives: a table, and figures for machines."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Figure", "Measured", "Part", "last_line", "markdown", "stored"]

Figure = float | str


@dataclass(frozen=True, slots=True)
class Measured:
    """One part's result. `note` says what was done; `figures` are what the last line says, ratios inside this run."""

    title: str
    note: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    figures: Mapping[str, Figure]
    machine: str = ""
    quick: bool = False


Part = Callable[[bool], Measured]
"""Runs a part; True = quickly, with fewer records."""


def last_line(key: str, measured: Measured) -> str:
    """One line for machines."""
    fields = (
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in measured.figures.items()
    )
    return " ".join((f"part={key}", *fields))


def markdown(key: str, measured: Measured) -> str:
    """The part's section of the report."""
    rule = ("---", *("---:",) * (len(measured.head) - 1))
    rows = "\n".join("| " + " | ".join(cells) + " |" for cells in (measured.head, rule, *measured.lines))
    quick = " A quick run, with fewer records." if measured.quick else ""
    machine = f"Machine: {measured.machine}."
    return f"## {key}. {measured.title}\n\n{measured.note}{quick} {machine}\n\n{rows}\n\n`{last_line(key, measured)}`"


def stored(folder: Path, key: str, measured: Measured | None = None) -> Measured | None:
    """Keeps a part's result, or gives the one that is kept; None when there is none."""
    path = folder / f"{key}.json"
    if measured is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(measured), indent=1) + "\n", encoding="utf-8")
        return measured
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = tuple(tuple(line) for line in found.pop("lines"))
    return Measured(**found | {"head": tuple(found["head"]), "lines": lines})
