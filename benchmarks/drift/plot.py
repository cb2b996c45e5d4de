"""The picture: alert rate over the stream, the release, the swap, and which faults were seen."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.drift.figures import Seen
from benchmarks.drift.traffic import ENTITIES, step_of
from producers.faults import Fault

__all__ = ["plot"]

BIN = 1_000  # records
RATE, SEEN, MISSED = "#3b6ea5", "#3b6ea5", "#c1440e"


def plot(
    seen: Collection[Seen],
    labels: Mapping[str, Fault],
    release_step: int,
    swaps: Mapping[str, int],
    target: float,
    path: Path,
) -> None:
    """Writes the picture; `swaps` gives the step at which each partition, by name, changed its model."""
    steps = np.array([step_of(each.id) for each in seen])
    flagged = np.array([each.flagged for each in seen])
    begin, width = int(steps.min()), BIN // ENTITIES
    bins = (steps - begin) // width
    rates = np.bincount(bins, flagged) / np.maximum(np.bincount(bins), 1)
    figure = Figure(figsize=(9, 4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    x = np.arange(len(rates)) * BIN / 1_000
    upper.step(x, 100 * rates, where="post", color=RATE)
    upper.axhspan(70 * target, 130 * target, color="k", alpha=0.08, label="target ± 30 %")
    upper.set_ylim(bottom=0)
    upper.set_ylabel(f"alert rate, % of {BIN:,} records")
    detected = {labels[each.id] for each in seen if each.flagged and each.id in labels}
    for fault in {labels[each.id] for each in seen if each.id in labels}:
        ends = [_thousand(fault.start, begin), _thousand(fault.end + 1, begin)]
        lower.plot(ends, [int(fault in detected)] * 2, lw=5, color=SEEN if fault in detected else MISSED)
    lower.set_yticks([0, 1], ["missed", "detected"])
    lower.set_ylim(-0.5, 1.5)
    lower.set_xlabel("records of the live stream, thousands")
    for axes in (upper, lower):
        axes.axvline(_thousand(release_step, begin), color="k", ls="--", lw=1, label="release")
        for number, step in enumerate(sorted(swaps.values())):
            axes.axvline(_thousand(step, begin), color=MISSED, lw=1, label=None if number else "model swapped")
        axes.spines[["top", "right"]].set_visible(False)
    upper.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _thousand(step: int, begin: int) -> float:
    return (step - begin) * ENTITIES / 1_000
