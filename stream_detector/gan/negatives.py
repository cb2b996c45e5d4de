"""Records that are not normal, made from normal ones, for the discriminator to learn from.

A generator's samples alone teach it only where the generator is wrong. Noise at many scales, on
random features, teaches it where normal ends (deep noise evaluation, Dai et al., AAAI 2025;
Fence GAN, Ngo et al. 2019); swapped values teach it which features belong together.
"""

import torch
from torch import Tensor

from stream_detector.gan.networks import LEVELS

__all__ = ["noised", "swapped"]

SCALES = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)  # noise a level, in standard deviations of the column
assert len(SCALES) == LEVELS + 1


def noised(records: Tensor, spread: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Records with Gaussian noise of a random level on a random share of the features.

    `records` [member, batch, column]; `spread` [member, 1, column] is what level 1.0 adds.
    Returns the noised records and which levels were reached, [member, batch, level] of 0 and 1.
    """
    members, rows, _ = records.shape
    level = torch.randint(0, LEVELS + 1, (members, rows, 1), generator=rng)
    share = torch.rand(members, rows, 1, generator=rng).clamp_min(0.05)
    touched = torch.rand(records.shape, generator=rng) < share
    noise = torch.randn(records.shape, generator=rng) * torch.tensor(SCALES)[level] * spread * touched
    reached = (level > torch.arange(LEVELS)).to(records.dtype)
    return records + noise, reached


def swapped(records: Tensor, rng: torch.Generator) -> Tensor:
    """Records with a random share of the features taken from another record of the batch."""
    members, rows, _ = records.shape
    others = records[:, torch.randperm(rows, generator=rng)]
    share = 0.5 * torch.rand(members, rows, 1, generator=rng).clamp_min(0.1)
    return torch.where(torch.rand(records.shape, generator=rng) < share, others, records)
