"""One look at records: what the memory, the generator and the evidence say, before any verdict."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_detector.gan.evidence import evidence
from stream_detector.gan.memory import Memory
from stream_detector.gan.networks import Gan
from stream_detector.scoring.inversion import Inversion, Problem, start

__all__ = ["Look", "look"]


@dataclass(frozen=True, slots=True)
class Look:
    """The inversion's problem and its start, and the discriminator's evidence [view, record, input]."""

    problem: Problem
    begun: Inversion
    evidence: Tensor

    def nearness(self) -> Tensor:
        """Half the log squared distance from the nearest kept record [view, record], less its usual value."""
        return self.evidence[:, :, -4]


@torch.inference_mode()
def look(
    gan: Gan,
    memory: Memory,
    reach: Tensor,
    records: Tensor,
    context: Tensor,
    present: Tensor,
    prior: float,
    own: Tensor | None = None,
) -> Look:
    """A look at `records` [view, record, column] in `context` and as far as `present` (both
    [record, column]); `reach` [member, 1, column] as for the inversion; `own` [record] are the kept records they are themselves, -1 for none.
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
    begun, residual = start(gan, problem, reach)
    residual = residual.view(views, per_view, rows, columns).mean(1)
    shown = evidence(gan.gauge, records, memory.neighbours(nearest), residual, present.unsqueeze(0))
    return Look(problem, begun, shown)
