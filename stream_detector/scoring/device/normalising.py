"""The normaliser in tensors: records to columns where the networks are, in double precision."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.features import Kind
from stream_detector.normaliser import CHANGED, FAR, MAX_CATEGORY_COLUMNS, UNITS, Normaliser

__all__ = ["DeviceNormaliser"]


@dataclass(frozen=True, slots=True)
class ColumnPlaces:
    """Places of features and columns, int64: of `numeric`, `cyclic`, `categorical` and `gappy` features the
    positions, and their first columns (`marks`, of a gap the only one); the feature that `owners` each column;
    the `judged` columns and the `context`.
    """

    numeric: Tensor
    numbers: Tensor
    cyclic: Tensor
    circles: Tensor
    period: Tensor
    categorical: Tensor
    categories: Tensor
    known: Tensor
    unseen: Tensor
    gappy: Tensor
    marks: Tensor
    owners: Tensor
    judged: Tensor
    context: Tensor

    @classmethod
    def of(cls, normaliser: Normaliser, device: torch.device) -> "ColumnPlaces":
        """Reads the places from the normaliser's layout."""
        layout, starts = normaliser.layout, normaliser.layout.starts()
        features, judged = layout.schema.features, layout.judged()
        kinds = [np.array(layout.of_kind(kind), np.int64) for kind in (Kind.NUMERIC, Kind.CYCLIC, Kind.CATEGORICAL)]
        numeric, cyclic, categorical = kinds
        gappy = np.flatnonzero(layout.gaps)
        period = np.array([features[f].period or 1.0 for f in cyclic])
        known = np.array([len(features[f].vocabulary) for f in categorical], np.int64)
        unseen = starts[1:][categorical] - 1 - np.array(layout.gaps, np.int64)[categorical]
        parts = [numeric, starts[numeric], cyclic, starts[cyclic], period, categorical, starts[categorical], known]
        parts += [unseen, gappy, layout.marks(), layout.owners(), np.flatnonzero(judged), np.flatnonzero(~judged)]
        return cls(*(torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts))


class DeviceNormaliser:
    """Does on a device what a normaliser does; its numbers are float64 [view, 1, column]."""

    def __init__(self, normaliser: Normaliser, device: torch.device) -> None:
        def placed(values: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device).unsqueeze(1)

        layout = normaliser.layout
        tamed = np.outer([view == "tamed" for view in normaliser.views], layout.numbers())
        unit = np.array([[UNITS[view]] for view in normaliser.views])
        self._places = ColumnPlaces.of(normaliser, device)
        self._centre, self._scale = placed(normaliser.centre), placed(normaliser.scale)
        self._offset, self._gain = placed(normaliser.offset), placed(normaliser.gain)
        self._jump = placed(normaliser.jump)
        self._knee, self._unit = placed(normaliser.knee), placed(unit)
        self._filler = placed(normaliser.filler)
        self._tamed = placed(tamed)
        self._simple = bool(tamed.all()) and not normaliser.jump.any()
        self._plain = len(layout.of_kind(Kind.NUMERIC)) == len(layout.owners())
        self._all_judged = bool(layout.judged().all())

    def __call__(self, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float32 judged columns [view, row, column], context and present [row, column] of rows [row, feature]."""
        raw, present = self._spread_out(matrix)
        columns = torch.where(present, self._bend(raw), self._filler).float()
        if self._all_judged:
            return columns, columns[0, :, :0], present.float()
        judged, context = self._places.judged, self._places.context
        present = present.index_select(1, judged).float()
        return columns.index_select(2, judged), columns[0].index_select(1, context), present

    def _spread_out(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Unscaled columns [row, column] and which of them were observed."""
        if self._plain:
            return matrix.double(), matrix == matrix
        missing = matrix.isnan()
        known = torch.where(missing, 0, matrix).double()
        at = self._places
        raw = known.new_zeros(len(matrix), len(at.owners))
        raw.index_copy_(1, at.numbers, known.index_select(1, at.numeric))
        turn = 2 * torch.pi * known.index_select(1, at.cyclic) / at.period
        raw.index_copy_(1, at.circles, turn.sin()).index_copy_(1, at.circles + 1, turn.cos())
        raw.scatter_(1, self._category(known.index_select(1, at.categorical).long()), 1.0)
        raw.index_copy_(1, at.marks, missing.index_select(1, at.gappy).double())
        present = (~missing).index_select(1, at.owners).index_fill_(1, at.marks, True)
        return raw, present

    def _category(self, codes: Tensor) -> Tensor:
        """The column of each code [row, categorical feature]; an unseen one has the feature's last."""
        at = self._places
        column = torch.minimum(codes, at.known.clamp_max(MAX_CATEGORY_COLUMNS - 1)) + at.categories
        return torch.where(codes >= at.known, at.unseen, column)

    def _bend(self, raw: Tensor) -> Tensor:
        """Columns [view, row, column] on their way to the networks; odd about the centre, and rising."""
        shifted = (raw - self._centre) * self._scale
        bent = shifted.clamp(-FAR, FAR).asinh_()
        if not self._simple:
            bent = self._bend_otherwise(bent, shifted)
        return bent.sub_(self._offset).mul_(self._gain)

    def _bend_otherwise(self, tamed: Tensor, shifted: Tensor) -> Tensor:
        """Columns that are not tamed, and constants that jump."""
        far = shifted.abs().clamp_max_(FAR)
        near = torch.minimum(far, self._knee)
        kneed = near + self._unit * ((far - near) / self._unit).log1p()
        bent = torch.where(self._tamed, tamed.abs(), kneed) + self._jump * (far > CHANGED)
        return bent.copysign(shifted)
