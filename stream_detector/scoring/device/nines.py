"""The calibration in tensors: from raw scores to nines, in double precision."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_detector.scoring.calibration import (
    LOG10_OF_2,
    LOG_10,
    MOST_DIGITS,
    POWERS,
    VERDICT,
    Calibration,
    TailTable,
    Weights,
)

__all__ = ["Nines", "Table", "significant"]


@dataclass(frozen=True, slots=True)
class Table:
    """As `TailTable`: `raw` and `nines` [score, knot], `scale` and `shape` [score, 1], float64."""

    raw: Tensor
    nines: Tensor
    scale: Tensor
    shape: Tensor
    exponential: bool

    @classmethod
    def of(cls, table: TailTable, device: torch.device) -> "Table":
        """The same on a device."""
        raw, nines, scale, shape = (
            torch.from_numpy(part).to(device) for part in (table.raw, table.nines, table.scale, table.shape)
        )
        return cls(raw, nines, scale.unsqueeze(1), shape.unsqueeze(1), not table.shape.any())

    def __call__(self, scores: Tensor) -> Tensor:
        """Nines [score, row] of raw scores [score, row]."""
        low, high = self.raw[:, :1], self.raw[:, -1:]
        left = (torch.searchsorted(self.raw, scores, right=True) - 1).clamp(0, self.raw.shape[1] - 2)
        below, least = self.raw.gather(1, left), self.nines.gather(1, left)
        share = (scores - below) / (self.raw.gather(1, left + 1) - below)
        body = least + share * (self.nines.gather(1, left + 1) - least)
        excess = (scores - high) / self.scale
        if not self.exponential:
            excess = torch.where(self.shape > 0, (self.shape * excess).log1p() / self.shape, excess)
        tail = self.nines[:, -1:] + excess / LOG_10
        front = self.nines[:, :1] / (1 + (low - scores) / self.scale)
        return torch.where(scores >= high, tail, torch.where(scores <= low, front, body))


class Nines:
    """A calibration on a device: the three scores of a record, from its raw ones."""

    def __init__(self, calibration: Calibration, weights: Weights, device: torch.device) -> None:
        self._parts, self._opinions, self._anomaly = (
            Table.of(table, device) for table in (calibration.parts, calibration.opinions, calibration.anomaly)
        )
        self._weights = weights
        self._powers = torch.from_numpy(POWERS).to(device)

    def __call__(self, raw: Tensor) -> Tensor:
        """Float32 inversion, discriminator and anomaly [3, row] of raw scores [view * part, row]."""
        views = self._parts(raw).view(-1, 4, raw.shape[1])
        inversion, nearness, distance, verdict = (views / len(views)).sum(0)
        judged = (distance + VERDICT * verdict) / (1 + VERDICT)
        first, second, third = self._weights
        combined = (inversion * first + judged * second + nearness * third) / (first + second + third)
        found = self._opinions(torch.stack((inversion, judged))), self._anomaly(combined.unsqueeze(0))
        return significant(torch.cat(found), self._powers)


def significant(values: Tensor, powers: Tensor) -> Tensor:
    """Float64 values rounded to 6 significant digits, float32; `powers` are those of 10."""
    binary = values.abs().frexp().exponent - 1  # tells the decimal exponent, or the one below it
    power = (binary * LOG10_OF_2).floor().clamp(-MOST_DIGITS, MOST_DIGITS).long()
    power = power + (values.abs() >= powers[MOST_DIGITS + power + 1])
    factor = powers[MOST_DIGITS + 5 - power]
    return ((values * factor).round() / factor).float()
