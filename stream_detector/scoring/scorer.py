"""Raw scores of records, tile by tile.

Every network call sees exactly one tile: the same number of rows, the last one filled up with zero
rows. A product's last bits may depend on its shape, so this is what makes a record score the same
alone, in any batch and in any order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.gan.networks import Gan
from stream_detector.gan.settings import InversionSettings
from stream_detector.normaliser import Normalised, Normaliser
from stream_detector.scoring.discrimination import FeatureSpread, judge
from stream_detector.scoring.inversion import Inversion, Problem, refine, start

__all__ = ["Scorer"]

TILE = 256  # rows in every network call
BLOCK = 32 * TILE  # rows normalised at once, which bounds memory
ROBUST_ROUNDS = 6
TAME = 3.0  # columns are cut to this before an expectation is formed
OUTLYING = 3.0  # times its usual residual, at which a column's weight has fallen to a half
LEAST_RESIDUAL = 0.02  # of a column, to which smaller usual residuals are raised
FLOOR = 1e-6  # of an objective, before its logarithm


@dataclass(frozen=True, slots=True)
class Scorer:
    """The networks and what scoring needs beside them.

    `usual` [member, 1, column] is the root mean square residual of normal records; `screen` is the
    mean log objective of the encoder's start above which a record's latent is searched for.
    """

    normaliser: Normaliser
    gan: Gan
    spread: FeatureSpread
    usual: Tensor
    screen: float
    prior: float
    search: InversionSettings

    def raw(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Raw scores [record, view * 3] of records [record, feature]: for every view the log
        objective of the inversion, the verdict, and the log distance; higher = more anomalous.
        """
        blocks = [self._raw_block(block) for block in _blocks(matrix)]
        return np.concatenate(blocks) if blocks else np.empty((0, 3 * len(self.normaliser.views)))

    def start_objectives(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean log objective of the encoder's start [record], what `screen` is compared with."""
        parts = []
        for block in _blocks(matrix):
            tiles = [start(self.gan, problem).objective for problem in self._tiles(self.normaliser(block))]
            parts.append(_mean_log(torch.cat(tiles, 1)[:, : len(block)]))
        return np.concatenate(parts)

    @torch.inference_mode()
    def usual_residuals(self, matrix: NDArray[np.float32]) -> Tensor:
        """Root mean square residual of each column at the encoder's start, [member, 1, column]."""
        total, count = torch.zeros(()), torch.zeros(())
        for problem in self._tiles(self.normaliser(matrix)):
            generated = self.gan.generate(start(self.gan, problem).latent, problem.context)
            total = total + ((generated - problem.records) * problem.present).square().sum(1, keepdim=True).cpu()
            count = count + problem.present.sum(1, keepdim=True).cpu()
        return (total / count.clamp_min(1) + LEAST_RESIDUAL**2).sqrt()

    @torch.inference_mode()
    def expect(self, matrix: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Expected features and unexplained parts, both float64 [record, feature].

        Expected values are G(z*) in the input's units, of the members of the first view; the
        unexplained part of a feature is the squared residual of its columns, each in units of what
        is usual there, over all members.
        Here z* is a robust fit: columns that fit badly lose their weight (Geman and McClure 1985),
        so that one wild feature does not drag the expectation of the others along.
        """
        layout = self.normaliser.layout
        owners = layout.owners()[layout.judged()]
        expected, unexplained = [], []
        for block in _blocks(matrix):
            normalised = self.normaliser(block)
            generated = torch.cat([self._robust(problem) for problem in self._tiles(normalised)], 1)
            generated = generated[:, : len(block)].cpu()
            first = generated[: self._per_view].mean(0).numpy()
            residual = ((self._members(normalised.views) - generated) / self.usual.cpu()).numpy() * normalised.present
            squared = np.square(residual.astype(np.float64)).mean(0)
            by_feature = np.zeros((len(block), len(layout.gaps)))
            np.add.at(by_feature.T, owners, squared.T)
            expected.append(self.normaliser.inverse(first, 0))
            unexplained.append(by_feature)
        return np.concatenate(expected), np.concatenate(unexplained)

    @torch.inference_mode()
    def _raw_block(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        normalised = self.normaliser(matrix)
        found = self._invert(normalised)
        complete = bool(normalised.present.all())
        verdicts, distances = [], []
        for tile, problem in enumerate(self._tiles(normalised)):
            records = problem.records
            if not complete:  # a gap is judged as if it held what the generator expects there
                rows = slice(tile * TILE, (tile + 1) * TILE)
                filler = self.gan.generate(_tile(found.latent[:, rows]), problem.context)
                records = torch.where(problem.present > 0, records, filler)
            verdict, distance = judge(self.gan, self.spread, records, problem.context)
            verdicts.append(verdict)
            distances.append(distance)
        parts = (
            np.log(_exact(found.objective) + FLOOR),
            _exact(torch.cat(verdicts, 1)[:, : len(matrix)]),
            np.log(_exact(torch.cat(distances, 1)[:, : len(matrix)]) + FLOOR),
        )
        by_view = [part.reshape(-1, self._per_view, len(matrix)).mean(1) for part in parts]
        return np.ascontiguousarray(np.stack(by_view, axis=1).reshape(-1, len(matrix)).T)

    def _invert(self, normalised: Normalised) -> Inversion:
        begun = [start(self.gan, problem) for problem in self._tiles(normalised)]
        rows = normalised.views.shape[1]
        latent = torch.cat([found.latent for found in begun], 1)[:, :rows]
        objective = torch.cat([found.objective for found in begun], 1)[:, :rows]
        if self.search.steps:
            self._search(normalised, latent, objective)
        return Inversion(latent, objective)

    def _search(self, normalised: Normalised, latent: Tensor, objective: Tensor) -> None:
        """Refine, in place, the rows whose start is worse than the screen."""
        chosen = np.flatnonzero(_mean_log(objective) > self.screen)
        index = torch.from_numpy(chosen)
        picked = Normalised(normalised.views[:, chosen], normalised.context[chosen], normalised.present[chosen])
        for tile, problem in enumerate(self._tiles(picked)):
            rows = index[tile * TILE : (tile + 1) * TILE].to(latent.device)
            begun = Inversion(_tile(latent[:, rows]), _tile(objective[:, rows].unsqueeze(2)).squeeze(2))
            found = refine(self.gan, problem, begun, self.search.steps, self.search.damping)
            latent[:, rows] = found.latent[:, : len(rows)]
            objective[:, rows] = found.objective[:, : len(rows)]

    def _robust(self, problem: Problem) -> Tensor:
        """What the generator makes of the columns that fit, [member, record, column]."""
        tame = replace(problem, records=problem.records.clamp(-TAME, TAME))
        found = start(self.gan, tame)
        for _ in range(ROBUST_ROUNDS):
            residual = self.gan.generate(found.latent, problem.context) - problem.records
            weighted = replace(
                problem, present=problem.present / (1 + (residual / self.usual / OUTLYING).square()).sqrt()
            )
            begun = replace(found, objective=torch.full_like(found.objective, torch.inf))
            found = refine(self.gan, weighted, begun, 1, self.search.damping)
        return self.gan.generate(found.latent, problem.context)

    def _tiles(self, normalised: Normalised) -> Iterator[Problem]:
        device = self.gan.encoder.weights[0].device
        views, context, present = map(torch.from_numpy, (normalised.views, normalised.context, normalised.present))
        for first in range(0, views.shape[1], TILE):
            rows = slice(first, first + TILE)
            records = self._members_of(_tile(views[:, rows])).to(device)
            members = len(records)
            yield Problem(
                records,
                _tile(context[None, rows]).expand(members, -1, -1).to(device),
                _tile(present[None, rows]).to(device),
                self.prior,
            )

    def to(self, device: torch.device) -> "Scorer":
        """The same scorer with its networks on `device`."""
        spread = FeatureSpread(self.spread.mean.to(device), self.spread.whitening.to(device))
        gan = self.gan.map(lambda tensor: tensor.to(device))
        return replace(self, gan=gan, spread=spread, usual=self.usual.to(device))

    @property
    def _per_view(self) -> int:
        return len(self.gan.encoder.weights[0]) // len(self.normaliser.views)

    def _members_of(self, views: Tensor) -> Tensor:
        return views.repeat_interleave(self._per_view, 0)

    def _members(self, views: NDArray[np.float32]) -> Tensor:
        return self._members_of(torch.from_numpy(views))


def _blocks(matrix: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    return (np.ascontiguousarray(matrix[first : first + BLOCK]) for first in range(0, len(matrix), BLOCK))


def _tile(tensor: Tensor) -> Tensor:
    """[member, up to TILE, width] filled up with zero rows to a whole tile."""
    lacking = TILE - tensor.shape[1]
    return torch.nn.functional.pad(tensor, (0, 0, 0, lacking)) if lacking else tensor.contiguous()


def _mean_log(objective: Tensor) -> NDArray[np.float64]:
    """Mean over the members of the log objective, float64 [record]."""
    mean: NDArray[np.float64] = np.log(_exact(objective) + FLOOR).mean(0)
    return mean


def _exact(tensor: Tensor) -> NDArray[np.float64]:
    """For the last steps of scoring: NumPy's logarithm gives a value the same bits in any array."""
    values: NDArray[np.float64] = tensor.cpu().numpy().astype(np.float64)
    return values
