"""What every training does: a falling learning rate, a step, and a running average of the weights."""

from math import cos, pi

import torch
from torch import Tensor

from stream_detector.gan import distributed
from stream_detector.gan.networks import Network

__all__ = ["average_into", "decay", "descend"]

LEAST = 0.04  # of the first learning rate, at the end
WARM = 10  # steps over which an average forgets where it started


def decay(step: int, steps: int) -> float:
    """The share of the first learning rate at a step: a cosine from 1 to 4 %."""
    return LEAST + (1 - LEAST) * 0.5 * (1 + cos(pi * step / steps))


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    """One step of an optimiser with one group of tensors, none of which may be left out of the loss."""
    group = optimiser.param_groups[0]
    group["lr"] = rate
    gradients = torch.autograd.grad(loss, group["params"])
    distributed.average_(gradients)
    for tensor, gradient in zip(group["params"], gradients, strict=True):
        tensor.grad = gradient
    optimiser.step()


@torch.no_grad()
def average_into(average: Network, network: Network, most: float, step: int) -> None:
    """Let `average` follow `network`, quickly at first; it keeps a share `most` a step in the end."""
    keep = min(most, (step + 1) / (step + WARM))
    current = [tensor.detach() for tensor in network.tensors()]
    torch._foreach_lerp_(list(average.tensors()), current, 1 - keep)
