"""Evidence, which the discriminator is shown of a record: the record itself, and its displacements.

A discriminator that sees the record alone has to learn by heart where normal records lie. Shown the
displacement from the nearest kept records and from what the generator makes of it, it only has to
learn how to weigh them.
"""

import torch
from torch import Tensor

from stream_detector.gan.networks import COLUMN_INPUTS, Gauge, evidence_width

__all__ = ["evidence", "gauged", "nearest_distance", "squared_distances"]

MAGNIFIED = 3.0  # displacements are smaller than the record's own values
LEAST = 0.01  # of the usual squared distance


def nearest_distance(inputs: Tensor, columns: int) -> Tensor:
    """Half the log squared distance from the nearest kept record, [view, row], in inputs [view, row, evidence_width]."""
    return inputs[:, :, COLUMN_INPUTS * columns]


def evidence(gauge: Gauge, records: Tensor, neighbours: Tensor, residual: Tensor, present: Tensor) -> Tensor:
    """The discriminator's inputs [view, row, evidence_width].

    `records`, `residual` and `present` are [view, row, column], `neighbours` [view, row, NEAR, column];
    what is not present is displaced by nothing. Displacements are in standard deviations of their
    column and grow as a square root far out; the distances are half logarithms.
    """
    views, rows, columns = records.shape
    inputs = records.new_empty(views, rows, evidence_width(columns))
    apart = (records.unsqueeze(2) - neighbours) * present.unsqueeze(2)
    tame = inputs[..., : COLUMN_INPUTS * columns].view(views, rows, COLUMN_INPUTS, columns)
    tame[:, :, 0] = records
    torch.mul(apart[:, :, 0], MAGNIFIED, out=tame[:, :, 1])
    torch.mul(apart.mean(2), MAGNIFIED, out=tame[:, :, 2])
    torch.mul(residual, MAGNIFIED, out=tame[:, :, 3])
    tame /= gauge.spread.unsqueeze(2)
    tame /= tame.abs().add_(1).sqrt_()
    squares = torch.cat((apart.square().mean(3), residual.square().mean(2, keepdim=True)), 2)
    inputs[..., COLUMN_INPUTS * columns :] = (squares + gauge.floor).log_() / 2 - gauge.centre
    return inputs


def squared_distances(records: Tensor, neighbours: Tensor) -> Tensor:
    """Mean squared displacement [view, row, NEAR] over the columns."""
    return (records.unsqueeze(2) - neighbours).square().mean(3)


def gauged(spread: Tensor, distances: Tensor) -> Gauge:
    """The gauge of normal records with these `squared_distances` to their nearest."""
    floor = distances.flatten(1).median(1).values * LEAST + 1e-8
    centre = ((distances + floor[:, None, None]).log() / 2).flatten(1).median(1).values
    return Gauge(spread, floor[:, None, None], centre[:, None, None])
