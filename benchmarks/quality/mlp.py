"""The little that the peers written here share: small networks, batches, Adam."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["batches", "descend", "network", "optimiser"]


def network(*widths: int) -> nn.Sequential:
    """A fully connected network; leaky rectifiers between the layers, nothing after the last."""
    layers: list[nn.Module] = []
    for left, right in pairwise(widths):
        layers += [nn.Linear(left, right), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def optimiser(rate: float, *networks: nn.Module, momentum: float = 0.9) -> torch.optim.Optimizer:
    """Adam over the weights of several networks."""
    weights = [weight for each in networks for weight in each.parameters()]
    return torch.optim.Adam(weights, rate, betas=(momentum, 0.999), fused=True)


def batches(records: Tensor, rows: int, steps: int) -> Iterator[Tensor]:
    """Random batches, drawn with repetition."""
    for _ in range(steps):
        yield records[torch.randint(len(records), (rows,))]


def descend(adam: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down a loss; gradients that other losses left behind are dropped."""
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    adam.step()
