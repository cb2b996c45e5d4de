"""The calibration in tensors: from raw scores to nines, in double precision and few kernels."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.scoring.calibration import LOG_10, MOST_DIGITS, POWERS, Calibration, TailTable
from stream_detector.scoring.opinions import Panel

__all__ = ["DeviceTable", "Nines", "Rounding"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DeviceTable:
    """Tail probabilities as a `TailTable` has them, all float64: the `inner` knots [score, knot]; of every interval its `start`, the nines there,
    and their slope [score * interval, 3], the first of each score `at` [score, 1]; the outermost knots with their
    nines, `scale` and `shape`, each [score, 1].
    """

    exponential: bool
    inner: Tensor
    intervals: Tensor
    at: Tensor
    low: Tensor
    high: Tensor
    least: Tensor
    most: Tensor
    scale: Tensor
    shape: Tensor

    @classmethod
    def of(cls, tables: list[TailTable], device: torch.device) -> "DeviceTable":
        """Puts tables on a device, one below the other."""
        parts = ([getattr(table, part) for table in tables] for part in ("raw", "nines", "scale", "shape"))
        raw, nines, scale, shape = map(np.concatenate, parts)
        width = np.diff(raw, axis=1)
        slope = np.divide(np.diff(nines, axis=1), width, out=np.zeros_like(width), where=width > 0)
        intervals = np.stack((raw[:, :-1], nines[:, :-1], slope), 2).reshape(-1, 3)
        at = np.arange(len(raw))[:, None] * width.shape[1]
        ends = (values[:, [end]] for values in (raw, nines) for end in (0, -1))
        arrays = (raw[:, 1:-1], intervals, at, *ends, scale[:, None], shape[:, None])
        return cls(not shape.any(), *(torch.from_numpy(array.copy()).to(device) for array in arrays))

    def __call__(self, scores: Tensor) -> Tensor:
        """Nines [score, row] of raw scores [score, row], contiguous."""
        interval = (torch.searchsorted(self.inner, scores, right=True) + self.at).flatten()
        start, nines, slope = self.intervals.index_select(0, interval).view(*scores.shape, 3).unbind(2)
        body = torch.addcmul(nines, scores - start, slope)
        front = self.least * self.scale / (self.scale + self.low - scores)
        below = torch.where(scores <= self.low, front, body)
        return torch.where(scores >= self.high, self.most + self._beyond(scores - self.high), below)

    def _beyond(self, excess: Tensor) -> Tensor:
        """Nines of the tail, of what scores exceed the highest knot by."""
        plain = excess / (LOG_10 * self.scale)
        if self.exponential:
            return plain
        bent = (self.shape / self.scale * excess).log1p() / (LOG_10 * self.shape)
        return torch.where(self.shape > 0, bent, plain)


class Rounding:
    """Rounds to 6 significant digits, as `calibration.significant` does."""

    def __init__(self, device: torch.device) -> None:
        factors = np.concatenate((POWERS[-1:], POWERS[::-1]))  # by how many powers of 10 a value reaches
        self._powers, self._factors = (torch.from_numpy(part.copy()).to(device) for part in (POWERS, factors))
        assert len(POWERS) == 2 * MOST_DIGITS + 6

    def __call__(self, values: Tensor) -> Tensor:
        """Float64 values [score, row] as float32."""
        reached = torch.searchsorted(self._powers, values.abs(), right=True)
        factor = self._factors.index_select(0, reached.flatten()).view_as(values)
        return ((values * factor).round_() / factor).float()


class Nines:
    """A calibration on a device: the scores that are told of a record, from its raw ones."""

    def __init__(self, calibration: Calibration, panel: Panel, device: torch.device) -> None:
        self._parts = DeviceTable.of([calibration.parts], device)
        self._opinions = DeviceTable.of([calibration.opinions, calibration.anomaly], device)
        views = len(calibration.parts.scale) // len(panel.parts)
        self._mixing = torch.from_numpy(_mixing(panel, views)).to(device)
        self._rounded = Rounding(device)

    def __call__(self, raw: Tensor) -> Tensor:
        """Float32 opinions and anomaly [score, row] of raw scores [view * part, row]."""
        return self._rounded(self._opinions((self._mixing * self._parts(raw)).sum(1)))


def _mixing(panel: Panel, views: int) -> Floats:
    """The weights of each part's nines in the opinions that are told and in the anomaly [score, view * part, 1]."""
    shares = panel.shares(1)
    rows = np.concatenate((shares[panel.told_places], np.array([panel.weights]) @ shares / sum(panel.weights)))
    return np.tile(rows / views, views)[:, :, None].copy()
