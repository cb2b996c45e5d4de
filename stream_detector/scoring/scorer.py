"""Raw scores of records: by the compiled kernel on the CPU, by tensors elsewhere; and what explains them.

By tensors, every network call sees exactly one tile: the same number of rows, the last one filled up.
A product's last bits may depend on its shape, so this is what makes a record score the same alone, in
any batch and in any order. The kernel computes every row for itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.gan.memory import Memory
from stream_detector.gan.networks import Gan
from stream_detector.gan.settings import InversionSettings
from stream_detector.normaliser import Normalised, Normaliser
from stream_detector.scoring.compiled.arrays import Compiled
from stream_detector.scoring.completion import Completion
from stream_detector.scoring.device import DeviceScorer
from stream_detector.scoring.discrimination import FeatureSpread, shown_to_all
from stream_detector.scoring.expectation import expected
from stream_detector.scoring.look import Look, look
from stream_detector.scoring.screen import Screen

__all__ = ["PARTS", "Scorer", "remembered"]

PARTS = 4  # raw scores of a view: inversion, nearness, distance, verdict
TILE = 256  # rows looked at at once
EXPLAINED = 64  # rows explained at once
BLOCK = 32 * TILE  # rows normalised at once, which bounds memory
OUTLYING = 1.0  # times its usual residual
LEAST_RESIDUAL = 0.02  # of a column's spread, to which smaller usual residuals are raised

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Scorer:
    """The networks and what scoring needs beside them.

    `kept` float32 [record, feature] are the normal records of the `memory`, in the input's units;
    `usual` [view, 1, column] is the root mean square residual of normal records from what is
    expected; `screen` says which records' latents are searched for.
    """

    normaliser: Normaliser
    gan: Gan
    kept: NDArray[np.float32]
    memory: Memory
    spread: FeatureSpread
    usual: Tensor
    screen: Screen
    search: InversionSettings

    def raw(self, matrix: NDArray[np.float32], own: Indices | None = None) -> Floats:
        """Raw scores [record, view * PARTS] of records [record, feature], higher = more anomalous.

        For every view the log misfit of the inversion, the log distance from the nearest kept
        record, the log distance in the discriminator's features, and its verdict. `own` [record] are
        the records' own positions in `kept`, which then do not count; -1 for none.
        """
        if self._compiled is None:
            return np.ascontiguousarray(self._by_tensors(matrix, own).T)
        own = np.full(len(matrix), -1) if own is None else own
        blocks = [
            self.screened(self.measured(self.normaliser(matrix[rows]), own[rows])) for rows in _blocks(len(matrix))
        ]
        return np.concatenate(blocks) if blocks else np.empty((0, PARTS * len(self.normaliser.views)))

    def measured(self, normalised: Normalised, own: Indices) -> Sequence[Floats]:
        """Starts, refined, nearness, distances and verdicts [view, record] of normalised records, on the CPU: one
        compiled call, which asks for Python's lock once.
        """
        assert self._compiled is not None, "on other devices, give records to a `DeviceScorer`"
        return self._compiled(normalised, own, self.screen.start, self.search)

    def screened(self, measured: Sequence[Floats]) -> Floats:
        """What was measured as raw scores [record, view * PARTS]."""
        starts, refined, *others = measured
        inverted = self.screen.joined(starts, refined) if self.search.steps else starts
        return np.stack((inverted, *others), 1).reshape(-1, starts.shape[1]).T

    def starts(self, matrix: NDArray[np.float32], own: Indices) -> Floats:
        """Mean log misfit of the encoder's start [record, view], what the screen is about."""
        plain = self.search.model_copy(update={"steps": 0})
        return replace(self, search=plain).raw(matrix, own)[:, ::PARTS]

    @torch.inference_mode()
    def features(self, matrix: NDArray[np.float32], own: Indices) -> Tensor:
        """The discriminators' features [member, record, hidden]."""
        found = []
        for rows in _blocks(len(matrix)):
            for seen in self._looks(self.normaliser(matrix[rows]), own[rows]):
                shown = shown_to_all(self.gan, seen.evidence, seen.problem.context[0])
                found.append(self.gan.discriminate(*shown)[1])
        return torch.cat(found, 1)[:, : len(matrix)]

    def expect(self, matrix: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Expected features and unexplained parts, both float64 [record, feature].

        Expected values are in the input's units, by the networks of the first view; the unexplained
        part of a feature is the squared residual of its columns, each in units of what is usual
        there, over all views.
        """
        layout = self.normaliser.layout
        owners = layout.owners()[layout.judged()]
        normalised = self.normaliser(matrix)
        columns = self.expected_columns(normalised)
        squared = np.square(self._residual(normalised, columns) / _exact(self.usual)).mean(0)
        by_feature = np.zeros((len(matrix), len(layout.gaps)))
        np.add.at(by_feature.T, owners, squared.T)
        return self.normaliser.inverse(columns[0], 0), by_feature

    def usual_residuals(self, matrix: NDArray[np.float32]) -> Tensor:
        """Root mean square residual of each column [view, 1, column] over normal records."""
        normalised = self.normaliser(matrix)
        residual = self._residual(normalised, self.expected_columns(normalised))
        count = np.maximum(normalised.present.sum(0), 1)
        squared = torch.from_numpy((np.square(residual).sum(1, keepdims=True) / count).astype(np.float32))
        return (squared + (LEAST_RESIDUAL * self.gan.gauge.spread.cpu()).square()).sqrt()

    def expected_columns(self, normalised: Normalised) -> NDArray[np.float32]:
        """What the generators expect, [view, record, column]."""
        if self._compiled:
            return self._compiled.expected(normalised, np.ascontiguousarray(self.usual[:, 0].numpy()))
        records, context, present = self._tensors(normalised)
        found = []
        for first in range(0, records.shape[1], EXPLAINED):
            rows = slice(first, first + EXPLAINED)
            tile = (
                _tile(records[:, rows], 1, EXPLAINED),
                *(_tile(part[rows], 0, EXPLAINED) for part in (context, present)),
            )
            found.append(expected(self.gan, self.memory, self.usual, *tile))
        columns: NDArray[np.float32] = torch.cat(found, 1)[:, : records.shape[1]].cpu().numpy()
        return columns

    def reach(self) -> Tensor:
        """Residuals [member, 1, column] at which a column has lost most of its say in the search."""
        return OUTLYING * self.usual.repeat_interleave(len(self.gan.encoder.weights[0]) // len(self.usual), 0)

    def to(self, device: torch.device) -> "Scorer":
        """The same scorer with its networks on `device`."""
        gan = self.gan.map(lambda tensor: tensor.to(device))
        memory, spread = self.memory.to(device), self.spread.to(device)
        return replace(self, gan=gan, memory=memory, spread=spread, usual=self.usual.to(device))

    @cached_property
    def completed(self) -> Completion:
        """What stands in for values that are missing or say nothing."""
        return Completion(self.normaliser, self.kept)

    @cached_property
    def _compiled(self) -> Compiled | None:
        """What scores on the CPU."""
        if self.gan.encoder.weights[0].device.type != "cpu":
            return None
        return Compiled.of(self.gan, self.memory, self.spread, self.reach(), self.search.prior)

    @cached_property
    def _by_tensors(self) -> DeviceScorer:
        """What scores on other devices."""
        return DeviceScorer.raw(self)

    def _residual(self, normalised: Normalised, columns: NDArray[np.float32]) -> Floats:
        residual: Floats = (normalised.views - columns).astype(np.float64) * normalised.present
        return residual

    def _looks(self, normalised: Normalised, own: Indices) -> Iterator[Look]:
        records, context, present = self._tensors(normalised)
        for first in range(0, records.shape[1], TILE):
            rows = slice(first, first + TILE)
            skipped = torch.from_numpy(own[rows]).to(records.device)
            shown = _tile(records[:, rows], 1), _tile(context[rows], 0), _tile(present[rows], 0)
            yield look(self.gan, self.memory, self.reach(), *shown, self.search.prior, skipped)

    def _tensors(self, normalised: Normalised) -> tuple[Tensor, Tensor, Tensor]:
        device = self.gan.encoder.weights[0].device
        arrays = normalised.views, normalised.context, normalised.present
        records, context, present = (torch.from_numpy(array).to(device) for array in arrays)
        return records, context, present


def remembered(normaliser: Normaliser, gan: Gan, kept: NDArray[np.float32]) -> Memory:
    """The memory of kept records [record, feature] in the input's units, where the networks are."""
    normalised = normaliser(kept)
    device = gan.encoder.weights[0].device
    records, context = torch.from_numpy(normalised.views), torch.from_numpy(normalised.context)
    return Memory.of(gan, records.to(device), context.to(device))


def _blocks(count: int) -> Iterator[slice]:
    return (slice(first, first + BLOCK) for first in range(0, count, BLOCK))


def _tile(tensor: Tensor, rows: int, size: int = TILE) -> Tensor:
    """Filled up with zeros along the dimension `rows` to a whole tile."""
    lacking = size - tensor.shape[rows]
    if not lacking:
        return tensor.contiguous()
    filling = tensor.new_zeros(*tensor.shape[:rows], lacking, *tensor.shape[rows + 1 :])
    return torch.cat((tensor, filling), rows)


def _exact(tensor: Tensor) -> Floats:
    """For the last steps of scoring: NumPy's logarithm gives a value the same bits in any array."""
    values: Floats = tensor.cpu().numpy().astype(np.float64)
    return values
