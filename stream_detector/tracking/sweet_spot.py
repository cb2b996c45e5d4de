"""Chooses the checkpoint where the discriminator detects best, which is rarely where training ended.

A discriminator starts ignorant and ends confused: once generated records look real, it has nothing
left to tell them by, and what it says swings from step to step ("Old is Gold", Zaheer et al. 2020).
In between it detects. No label is looked at: held-out normal records are told from synthetic
anomalies, over all sizes, and the curve is smoothed, because one checkpoint may be good by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["HIGHEST", "Rule", "SweetSpot", "sweet_spot"]

NEIGHBOURS = 1  # checkpoints on either side that a smoothed value is the mean with
DIGITS = 6  # of an area that are compared: the last bits decide nothing


@dataclass(frozen=True, slots=True)
class Rule:
    """Says which areas count as equal: those up to `slack` below the highest, from the step `warm` on.

    With a slack of about the area's standard error this is the one-standard-error rule (Breiman et al.
    1984, section 3.4.3): among those that cannot be told apart it takes the simplest, here the least trained.
    """

    warm: int = 0
    slack: float = 0.0


HIGHEST = Rule()


@dataclass(frozen=True, slots=True)
class SweetSpot:
    """The chosen step, and the curve that shows why: mean area under the ROC curve at every
    measured step, as measured and smoothed, in [0, 1]; `enough` is the area that sufficed.
    """

    step: int
    enough: float
    steps: tuple[int, ...]
    measured: tuple[float, ...]
    smoothed: tuple[float, ...]

    @property
    def auc(self) -> float:
        """The smoothed area at the chosen step."""
        return self.smoothed[self.steps.index(self.step)]


def sweet_spot(steps: Sequence[int], areas: Sequence[Sequence[float]], rule: Rule = HIGHEST) -> SweetSpot:
    """The earliest step whose smoothed mean of `areas` [step, size] equals the highest by the rule.

    Where no step comes after the rule's `warm`, all of them count.
    """
    measured = np.mean(np.asarray(areas, dtype=np.float64), axis=1)
    smoothed = np.round(_smooth(measured), DIGITS)
    eligible = np.asarray(steps) >= min(rule.warm, steps[-1])
    enough = float(smoothed[eligible].max() - rule.slack)
    best = steps[int((eligible & (smoothed >= enough)).argmax())]
    return SweetSpot(best, enough, tuple(steps), tuple(measured.tolist()), tuple(smoothed.tolist()))


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over each value and its neighbours, fewer of them at the ends."""
    windows = [values[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1] for at in range(len(values))]
    return np.array([window.mean() for window in windows])
