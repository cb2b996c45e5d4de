"""Random numbers for training, and negatives: normal records that are noised or otherwise moved.

Numbers are float32, whatever torch's default type is in the program around them.

A generator's samples alone teach a discriminator only where the generator is wrong. Noise at many scales, on
random features, teaches it where normal ends (deep noise evaluation, Dai et al., AAAI 2025;
Fence GAN, Ngo et al. 2019); swapped values teach it which features belong together.
"""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

__all__ = [
    "DISPLACEMENTS",
    "blurred",
    "column_spread",
    "corrupted",
    "displacement",
    "gaussian",
    "log_uniform",
    "uniform",
]

DISPLACEMENTS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # told apart; root mean square, in standard deviations
NOISE = (0.02, 3.0)  # standard deviations, log-uniform
WHOLE = 0.4  # share of the noised records with noise on every column
KINDS = (0.15, 0.3, 0.4)  # up to which share: swapped, partly swapped, extrapolated; the rest is noised
LEAST_SPREAD = 0.5  # of the root mean square spread: a rare change must not outweigh a common one
BLUR = 0.5  # of the latents' spread, between generated records and those they come from


def uniform(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Draws numbers in [0, 1), each equally likely."""
    return torch.rand(*shape, generator=rng, dtype=torch.float32)


def gaussian(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Draws standard normal numbers."""
    return torch.randn(*shape, generator=rng, dtype=torch.float32)


def log_uniform(shape: Sequence[int], bounds: tuple[float, float], rng: torch.Generator) -> Tensor:
    """Draws numbers between two bounds, each order of magnitude equally likely."""
    exponents = torch.empty(*shape, dtype=torch.float32)
    return exponents.uniform_(log(bounds[0]), log(bounds[1]), generator=rng).exp_()


def blurred(latents: Tensor, rng: torch.Generator) -> Tensor:
    """Latents [member, record, latent] to generate records from: those of real records, moved at random by up to
    half of their spread. The prior of a generator is where normal records' latents lie.
    """
    shape = (*latents.shape[:2], 1)
    blur = gaussian(latents.shape, rng) * uniform(shape, rng)
    return latents + BLUR * blur.to(latents.device) * latents.std(1, keepdim=True)


def column_spread(views: Tensor) -> Tensor:
    """Standard deviation [view, 1, column] of normal records; nearly constant columns have a least one."""
    spread = views.std(1, keepdim=True)
    return torch.maximum(spread, LEAST_SPREAD * spread.square().mean(2, keepdim=True).sqrt() + 1e-6)


def corrupted(records: Tensor, others: Tensor, spread: Tensor, rng: torch.Generator) -> Tensor:
    """Moves records [row, column]: each is noised, has another record's values on random columns or moves part of the way
    to them, or moves away from another record.
    """
    each = (len(records), 1)
    share = uniform(each, rng)
    share = torch.where(uniform(each, rng) < WHOLE, 1.0, share)
    mask = uniform(records.shape, rng) < share
    noise = gaussian(records.shape, rng) * log_uniform(each, NOISE, rng) * spread
    kind, part = uniform(each, rng), uniform(each, rng)
    towards = others - records
    moves = torch.where(kind < KINDS[2], -part * towards, noise * mask)
    moves = torch.where(kind < KINDS[1], part * towards * mask, moves)
    return records + torch.where(kind < KINDS[0], towards * mask, moves)


def displacement(moved: Tensor, records: Tensor, spread: Tensor) -> Tensor:
    """Root mean square displacement [row] of records [row, column], in standard deviations."""
    return ((moved - records) / spread).square().mean(-1).sqrt()
