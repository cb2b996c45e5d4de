"""What every training does: a falling learning rate, a step, and a running average of the weights."""

from collections.abc import Callable
from math import cos, pi

import torch
from torch import Tensor

from stream_detector.gan import distributed
from stream_detector.gan.networks import Network

__all__ = ["Descent", "average_into", "decay"]

LEAST = 0.04  # of the first learning rate, at the end
WARM = 10  # steps over which an average forgets where it started


def decay(step: int, steps: int) -> float:
    """The share of the first learning rate at a step: a cosine from 1 to 4 %."""
    return LEAST + (1 - LEAST) * 0.5 * (1 + cos(pi * step / steps))


class Descent:
    """Steps of an optimiser with one group of tensors, none of which may be left out of the loss.

    Processes that train together make one each, at the same time, and step along their mean gradient.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser
        self._group = optimiser.param_groups[0]
        self._computed = distributed.computing(self._group["params"])

    def __call__(self, losses: Callable[[], tuple[Tensor, ...]], rate: float) -> tuple[Tensor, ...]:
        """One step down the first of `losses`; all of them, detached."""
        self._group["lr"] = rate
        self._optimiser.zero_grad()
        found = self._computed(losses)
        # Only these: what else the loss depends on, as the critic of what is generated, learns nothing of it.
        torch.autograd.backward(found[0], inputs=self._group["params"])
        self._optimiser.step()
        return tuple(each.detach() for each in found)


@torch.no_grad()
def average_into(average: Network, network: Network, most: float, step: int) -> None:
    """Let `average` follow `network`, quickly at first; it keeps a share `most` a step in the end."""
    keep = min(most, (step + 1) / (step + WARM))
    current = [tensor.detach() for tensor in network.tensors()]
    torch._foreach_lerp_(list(average.tensors()), current, 1 - keep)
