"""Records that are not normal, made from normal ones, for the discriminator to learn from.

A generator's samples alone teach it only where the generator is wrong. Noise at many scales, on
random features, teaches it where normal ends (deep noise evaluation, Dai et al., AAAI 2025;
Fence GAN, Ngo et al. 2019); swapped values teach it which features belong together.
"""

import torch
from torch import Tensor

from stream_detector.gan.draws import gaussian, log_uniform, uniform
from stream_detector.gan.networks import LEVELS

__all__ = ["DISPLACEMENTS", "corrupted", "displacement"]

DISPLACEMENTS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # told apart; root mean square, in standard deviations
assert len(DISPLACEMENTS) == LEVELS
NOISE = (0.02, 3.0)  # standard deviations, log-uniform
WHOLE = 0.4  # share of the noised records with noise on every column
KINDS = (0.15, 0.3, 0.4)  # up to which share: swapped, partly swapped, extrapolated; the rest is noised


def corrupted(records: Tensor, others: Tensor, spread: Tensor, rng: torch.Generator) -> Tensor:
    """Records [row, column], each moved: noised, with values or parts of the way to another record's
    values on random columns, or moved away from another record.
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
