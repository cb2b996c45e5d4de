"""Random numbers for training, float32 whatever torch's default type is in the program around it."""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

__all__ = ["gaussian", "log_uniform", "uniform"]


def uniform(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Numbers in [0, 1), each equally likely."""
    return torch.rand(*shape, generator=rng, dtype=torch.float32)


def gaussian(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=rng, dtype=torch.float32)


def log_uniform(shape: Sequence[int], bounds: tuple[float, float], rng: torch.Generator) -> Tensor:
    """Numbers between two bounds, each order of magnitude equally likely."""
    exponents = torch.empty(*shape, dtype=torch.float32)
    return exponents.uniform_(log(bounds[0]), log(bounds[1]), generator=rng).exp_()
