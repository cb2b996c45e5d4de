"""The expectation of the generator: what a record would be, were its normal features all there is.

A robust fit: columns that fit badly lose their weight (Geman and McClure 1985), so that one wild
feature does not drag the expectation of the others along. The start is what the kept records say
that are nearest in most columns; then encoder and generator rebuild the record again and again,
the columns that fit badly replaced by what is expected there.
"""

import torch
from torch import Tensor

from stream_detector.gan.memory import Memory
from stream_detector.gan.networks import Gan

__all__ = ["expected"]

ROUNDS = 4
OUTLYING = 3.0  # times its usual residual, at which a column's weight has fallen to a half
ASKED = 512  # kept records among which there are
NEIGHBOURS = 5  # kept records that the start is the mean of


@torch.inference_mode()
def expected(
    gan: Gan, memory: Memory, residual_rms: Tensor, records: Tensor, context: Tensor, present: Tensor
) -> Tensor:
    """Expected columns [view, record, column] of `records`, with the arguments of `look`.

    `residual_rms` [view, 1, column] is the root mean square residual of normal records. Always as many records as a
    tile has make a network call, so that a record's expectation does not depend on the others.
    """
    latents = _neighbour_latents(memory, residual_rms, records, context, present)
    per_view = len(latents) // len(records)
    settings = context.expand(len(latents), -1, -1)
    guess = _mean(gan.generate(latents, settings), per_view)
    for _ in range(ROUNDS):
        weight = present / (1 + ((records - guess) / (OUTLYING * residual_rms)).square())
        blend = (guess + weight * (records - guess)).repeat_interleave(per_view, 0)
        guess = _mean(gan.generate(gan.encode(blend, settings), settings), per_view)
    return guess


def _neighbour_latents(
    memory: Memory, residual_rms: Tensor, records: Tensor, context: Tensor, present: Tensor
) -> Tensor:
    """Mean latents [member, record, latent] of the kept records nearest in most columns."""
    some = slice(None, None, max(1, memory.records.shape[1] // ASKED))
    apart = (records.unsqueeze(2) - memory.records[:, None, some]).div_(OUTLYING * residual_rms.unsqueeze(2)).square_()
    apart.div_(1 + apart).mul_(present.unsqueeze(1))
    unlike = memory.context_distance(context)[:, :, some] + apart.sum(3)
    nearest = unlike.topk(min(NEIGHBOURS, unlike.shape[2]), largest=False).indices
    per_view = len(memory.latents) // len(records)
    means = [kept[some][nearest[member // per_view]].mean(1) for member, kept in enumerate(memory.latents)]
    return torch.stack(means)


def _mean(members: Tensor, per_view: int) -> Tensor:
    return members.view(-1, per_view, *members.shape[1:]).mean(1)
