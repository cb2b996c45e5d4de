"""Figures against the labels, as a Markdown page and as one machine-readable line."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

__all__ = ["Figures", "figures", "machine", "page", "table"]

Flags = NDArray[np.bool_]
Scores = NDArray[np.floating]


@dataclass(frozen=True)
class Figures:
    """How scores and alerts stand against the labels, all in [0, 1]; precision is NaN without alerts."""

    records: int
    auroc: float
    auprc: float
    precision: float
    recall: float


def figures(attack: Flags, scores: Scores, flagged: Flags) -> Figures:
    """Of records with both kinds among them."""
    hits = int((attack & flagged).sum())
    return Figures(
        records=int(attack.sum()),
        auroc=float(roc_auc_score(attack, scores)),
        auprc=float(average_precision_score(attack, scores)),
        precision=hits / int(flagged.sum()) if flagged.any() else float("nan"),
        recall=hits / int(attack.sum()),
    )


def by_class(labels: NDArray[np.str_], scores: Scores, flagged: Flags) -> Iterator[tuple[str, Figures]]:
    """Each attack class against all normal records, the most frequent first."""
    names, counts = np.unique(labels[labels != "normal"], return_counts=True)
    for name in names[np.argsort(-counts, kind="stable")]:
        rows = (labels == name) | (labels == "normal")
        yield str(name), figures(labels[rows] == name, scores[rows], flagged[rows])


def table(labels: NDArray[np.str_], scores: Scores, flagged: Flags) -> str:
    """All attacks, then each class, as a Markdown table."""
    lines = ["| attack | records | AUROC | AUPRC | alerts: precision | alerts: recall |", "|---|--:|--:|--:|--:|--:|"]
    everything = ("**all**", figures(labels != "normal", scores, flagged))
    lines += [_line(name, found) for name, found in (everything, *by_class(labels, scores, flagged))]
    return "\n".join(lines)


def _line(name: str, found: Figures) -> str:
    cells = (f"{value:.4f}" for value in (found.auroc, found.auprc, found.precision, found.recall))
    return f"| {name} | {found.records:,} | {' | '.join(cells)} |"


def machine() -> str:
    """The processor's name and number of cores, and the versions that matter."""
    import torch  # noqa: PLC0415

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def page(sections: dict[str, str]) -> str:
    """A Markdown page of titled sections."""
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# KDDCUP99 through Kafka\n\n{body}\n"
