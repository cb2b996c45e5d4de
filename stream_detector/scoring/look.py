"""Scorers, and the look at records that they judge by: the memory, the generator and the evidence.

Here and in `inversion` and `discrimination` is the specification of scoring, in tensors. The compiled kernel computes
the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.gan.evidence import evidence, nearest_distance
from stream_detector.gan.memory import Memory
from stream_detector.gan.networks import Gan, Sizes
from stream_detector.normaliser import Normalised
from stream_detector.scoring.inversion import Inversion, Problem, start

__all__ = ["Look", "Method", "Opinion", "look"]

Arrays = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Look:
    """A look at records: `records` [view, record, column], `context` and `present` [record, column], the
    inversion's problem and its start, and the discriminator's evidence [view, record, input].
    """

    records: Tensor
    context: Tensor
    present: Tensor
    problem: Problem
    begun: Inversion
    evidence: Tensor

    def nearness(self) -> Tensor:
        """Half the log squared distance from the nearest kept record [view, record], less its usual value."""
        return nearest_distance(self.evidence, self.records.shape[2])


@dataclass(frozen=True, slots=True)
class Method:
    """A way to score beside the networks' own; its raw score is higher for what is more anomalous.

    `learn` gives float32 arrays from normal records, the kept ones, `shapes` the shapes of those arrays for networks
    of some sizes. `by_tensors` gives raw scores [view, record] from these arrays as tensors and a `Look`.
    `by_kernel` is compiled; from the arrays as a tuple and `views` [view, record, column], `context` and `present`
    [record, column] and `evidence` [view, record, input] it writes raw scores, float64 [view, record], into its last
    argument. Both must give a record the same score in any batch.
    """

    learn: Callable[[Normalised], Arrays]
    shapes: Callable[[Sizes], Sequence[tuple[int, ...]]]
    by_tensors: Callable[[Sequence[Tensor], Look], Tensor]
    by_kernel: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Opinion:
    """A scorer, whose opinion of a record is told under its name.

    Its surprise is the weighted mean of its raw scores' nines: `parts` are their names and weights, by default
    one named as the opinion. `weight` is its weight in the anomaly score of the mode `combined`. One that `is_told`
    stands in scores and alerts, and its name is a mode, too. A `method` is needed for raw scores that are not among
    the networks' own.
    """

    name: str
    parts: Mapping[str, float] = field(default_factory=dict)
    weight: float = 0.0
    is_told: bool = True
    method: Method | None = None

    def shares(self) -> Mapping[str, float]:
        """Names of its raw scores with their weights."""
        return self.parts or {self.name: 1.0}


@torch.inference_mode()
def look(
    gan: Gan,
    memory: Memory,
    robust_scale: Tensor,
    records: Tensor,
    context: Tensor,
    present: Tensor,
    prior: float,
    own: Tensor | None = None,
) -> Look:
    """Looks at `records` [view, record, column] in `context` and as far as `present` (both [record, column]).

    `robust_scale` [member, 1, column] is as for the inversion, `prior` the weight of the neighbours' latents in the
    misfit; `own` [record] are the kept records that the records are themselves, -1 for none.
    """
    views, rows, columns = records.shape
    nearest = memory.nearest(records, context, own)
    members = len(gan.encoder.weights[0])
    per_view = members // views
    problem = Problem(
        records.repeat_interleave(per_view, 0),
        context.expand(members, -1, -1),
        present.expand(members, -1, -1),
        *memory.prior(nearest),
        prior,
    )
    begun, residual = start(gan, problem, robust_scale)
    residual = residual.view(views, per_view, rows, columns).mean(1)
    shown = evidence(gan.gauge, records, memory.neighbours(nearest), residual, present.unsqueeze(0))
    return Look(records, context, present, problem, begun, shown)
