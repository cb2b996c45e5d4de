"""The rank plot: mean ranks with Nemenyi's critical difference."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.quality.summary import Ranks, critical_difference

__all__ = ["plot_ranks"]

OURS, PEER = "#c1440e", "#3b6ea5"


def plot_ranks(panels: Sequence[tuple[str, Ranks]], ours: Collection[str], path: Path) -> None:
    """One panel for every (title, ranks); whiskers that do not overlap differ at the 5 % level."""
    height = 1.4 + 0.3 * max(len(ranks.names) for _, ranks in panels)
    figure = Figure(figsize=(6 * len(panels), height), layout="constrained")
    for axes, (title, ranks) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, title, ranks, ours)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _panel(axes: Axes, title: str, ranks: Ranks, ours: Collection[str]) -> None:
    difference = critical_difference(len(ranks.names), ranks.sets)
    order = np.argsort(ranks.means, kind="stable")
    for line, index in enumerate(order):
        colour = OURS if ranks.names[index] in ours else PEER
        axes.errorbar(ranks.means[index], line, xerr=difference / 2, fmt="o", color=colour, capsize=3, ms=5)
    axes.set_yticks(range(len(order)), [ranks.names[index] for index in order])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(title)
    axes.set_xlabel(f"mean rank over {ranks.sets} sets, 1 = best\n(critical difference {difference:.2f})")
    axes.spines[["top", "right"]].set_visible(False)
