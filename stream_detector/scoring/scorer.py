"""A scorer: the networks and what scoring needs beside them; on the CPU, raw scores by the compiled kernel.

By tensors, every network call sees exactly one tile: the same number of rows, the last one filled up.
A product's last bits may depend on its shape, so this is what makes a record score the same alone, in
any batch and in any order. The kernel computes every row for itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.gan.memory import Memory
from stream_detector.gan.networks import Gan, evidence_width
from stream_detector.gan.settings import InversionSettings
from stream_detector.normaliser import Normalised, Normaliser
from stream_detector.scoring.calibration import Calibration
from stream_detector.scoring.compiled.kernel import Kernel, KernelScores
from stream_detector.scoring.compiled.layout import Autoencoder, Discriminators, Inputs, KeptRecords
from stream_detector.scoring.discrimination import FeatureSpread, shown_to_all
from stream_detector.scoring.expectation import expected
from stream_detector.scoring.explanation import Completion
from stream_detector.scoring.look import Look, look
from stream_detector.scoring.opinions import Panel, RawScores

__all__ = ["Measured", "Scorer", "Scores", "Screen", "blocks", "remembered"]

TILE = 256  # rows looked at at once
EXPLAINED = 64  # rows explained at once
BLOCK = 32 * TILE  # rows normalised at once, which bounds memory
OUTLYING = 1.0  # times its usual residual
LEAST_RESIDUAL = 0.02  # of a column's spread, to which smaller usual residuals are raised
EVERYONE = -1e30  # a start that every record's lies above

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Screen:
    """Chooses the records whose latents are worth a search, and places them among the others after it.

    A search lowers the objective of the records it is spent on, so a searched record must not be compared
    with one that was not by the objective alone: it would pass it. Records beyond the screen stay beyond
    it, in the order of what the search has left. For every view, `start` [view] is the log misfit at the start
    above which a record is searched for, and `refined` [view] the median one of normal records after the search.
    """

    start: Floats
    refined: Floats

    @classmethod
    def everyone(cls, views: int) -> "Screen":
        """A screen that every record lies beyond."""
        return cls(np.full(views, EVERYONE), np.zeros(views))

    @classmethod
    def fit(cls, starts: Floats, refined: Floats, share: float) -> "Screen":
        """Learns from log misfits [record, view] of held-out normal records; a `share` of them is not searched for."""
        if not share:
            return cls.everyone(starts.shape[1])
        start = np.quantile(starts, share, axis=0)
        searched = np.where(starts > start, refined, np.nan)
        return cls(start, np.nanmedian(searched, axis=0) if (starts > start).any(0).all() else start)

    @cached_property
    def is_everyone(self) -> bool:
        """Whether every record is searched for."""
        return bool((self.start == EVERYONE).all())

    def joined(self, starts: Floats, refined: Floats) -> Floats:
        """Scores [view, record]: the start up to the screen, and what the search has left beyond it."""
        if self.is_everyone:
            return refined
        start, median = self.start[:, None], self.refined[:, None]
        return np.where(starts > start, start + np.logaddexp(0, refined - median), starts)


@dataclass(frozen=True, slots=True)
class Scores:
    """Float32 arrays [record] in nines (-log10 of a tail probability: 3.0 = one normal record in
    1,000 scores as high); higher = more anomalous; finite; 6 significant digits.

    `inversion` and `discriminator` are the two opinions, `anomaly` what the model's mode makes of them; `others` are
    by name the opinions of other scorers that the model has. Where the model has a context, the opinions are about the
    record alone, and `views` has by name the nines of the `record` alone and of its `context`, NaN where that says
    nothing; `anomaly` is made of both.
    """

    inversion: NDArray[np.float32]
    discriminator: NDArray[np.float32]
    anomaly: NDArray[np.float32]
    others: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    views: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(cls, panel: Panel, scores: NDArray[np.float32]) -> Self:
        """Names the opinions that a panel tells, and the anomaly score [score, record]."""
        inversion, discriminator, *others, anomaly = scores  # the networks' own opinions come first
        return cls(inversion, discriminator, anomaly, dict(zip(panel.told[2:], others, strict=True)))

    def flagged(self, rate: float) -> NDArray[np.bool_]:
        """Flags the records that score higher than a share `rate` of normal ones does, bool [record].

        Raises `DataError` unless the rate is above 0 and below 1.
        """
        flagged: NDArray[np.bool_] = self.anomaly > np.float32(Calibration.quantile(rate))
        return flagged

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores, in the order of `columns`."""
        return ("inversion", "discriminator", *self.others, "anomaly")

    def of_record(self, row: int) -> NDArray[np.float32]:
        """The scores of one record [score], in the order of `columns`."""
        return np.array([scores[row] for scores in self._arrays])

    def columns(self) -> NDArray[np.float32]:
        """All scores [record, score]: inversion, discriminator, others, anomaly."""
        return np.stack(self._arrays, axis=1)

    @property
    def _arrays(self) -> tuple[NDArray[np.float32], ...]:
        return (self.inversion, self.discriminator, *self.others.values(), self.anomaly)


class Measured(NamedTuple):
    """Scores of records on the CPU: the kernel's, and by name those of other scorers [view, record]."""

    kernel: KernelScores
    others: Mapping[str, Floats]


@dataclass(frozen=True)
class Scorer:
    """The networks and what scoring needs beside them.

    `kept` float32 [record, feature] are the normal records of the `memory`, in the input's units;
    `residual_rms` [view, 1, column] is the root mean square residual of normal records from what is
    expected; `screen` says which records' latents are searched for; `panel` holds the opinions, and `learnt` by
    name what the scorers beside the networks' own have learnt, on the CPU.
    """

    normaliser: Normaliser
    gan: Gan
    kept: NDArray[np.float32]
    memory: Memory
    spread: FeatureSpread
    residual_rms: Tensor
    screen: Screen
    search: InversionSettings
    panel: Panel
    learnt: Mapping[str, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)

    def raw(self, matrix: NDArray[np.float32], own: Indices | None = None) -> RawScores:
        """Raw scores of records [record, feature] on the CPU; elsewhere `scoring.device.raw_scores` gives them.

        For every view they are the log misfit of the inversion, the log distance from the nearest kept record, the
        log distance in the discriminator's features, its verdict, and what other scorers say. `own` [record] are the
        records' own positions in `kept`, which then do not count; -1 for none.
        """
        own = np.full(len(matrix), -1) if own is None else own
        rows = [*blocks(len(matrix))] or [slice(0, 0)]
        return RawScores.joined([self.screened(self.measured(self.normaliser(matrix[at]), own[at])) for at in rows])

    def measured(self, normalised: Normalised, own: Indices) -> Measured:
        """Measures normalised records on the CPU: one compiled call, which asks for Python's lock once."""
        inputs, methods = Inputs.of(normalised, own), self.panel.methods
        if not methods:
            return Measured(self.kernel(inputs, self.screen.start, self.search), {})
        evidence = np.zeros((*inputs.views.shape[:2], evidence_width(inputs.views.shape[2])), np.float32)
        found = self.kernel(inputs, self.screen.start, self.search, evidence)
        others = {name: np.zeros(inputs.views.shape[:2]) for name in methods}
        for name, method in methods.items():
            seen = inputs.views, inputs.context, inputs.present, evidence
            method.by_kernel(self.learnt[name], *seen, others[name])
        return Measured(found, others)

    def screened(self, measured: Measured) -> RawScores:
        """Turns what was measured into raw scores; searched records are placed beyond the screen."""
        (starts, refined, nearness, distance, verdict), others = measured
        inverted = self.screen.joined(starts, refined) if self.search.steps else starts
        named = {"inversion": inverted, "nearness": nearness, "distance": distance, "verdict": verdict}
        return RawScores.stacked({**named, **others})

    def without_search(self) -> "Scorer":
        """A scorer whose inversion is the encoder's start, the log misfit that the screen is about."""
        return replace(self, search=self.search.model_copy(update={"steps": 0}))

    @torch.inference_mode()
    def features(self, matrix: NDArray[np.float32], own: Indices) -> Tensor:
        """The discriminators' features [member, record, hidden]."""
        found = []
        for rows in blocks(len(matrix)):
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
        usual = self.residual_rms.cpu().numpy().astype(np.float64)
        squared = np.square(self._residual(normalised, columns) / usual).mean(0)
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
        """The columns that the generators expect, [view, record, column]."""
        if self.device.type == "cpu":
            inputs = Inputs.of(normalised, np.full(normalised.views.shape[1], -1))
            return self.kernel.expected(inputs, np.ascontiguousarray(self.residual_rms[:, 0].numpy()))
        records, context, present = self._tensors(normalised)
        found = []
        for first in range(0, records.shape[1], EXPLAINED):
            rows = slice(first, first + EXPLAINED)
            tile = (
                _tile(records[:, rows], 1, EXPLAINED),
                *(_tile(part[rows], 0, EXPLAINED) for part in (context, present)),
            )
            found.append(expected(self.gan, self.memory, self.residual_rms, *tile))
        columns: NDArray[np.float32] = torch.cat(found, 1)[:, : records.shape[1]].cpu().numpy()
        return columns

    def robust_scale(self) -> Tensor:
        """Residuals [member, 1, column] at which a column has lost most of its weight in the search."""
        members = len(self.gan.encoder.weights[0])
        return OUTLYING * self.residual_rms.repeat_interleave(members // len(self.residual_rms), 0)

    def to(self, device: torch.device) -> "Scorer":
        """Copies the scorer's networks to `device`."""
        gan = self.gan.map(lambda tensor: tensor.to(device))
        memory, spread = self.memory.to(device), self.spread.to(device)
        return replace(self, gan=gan, memory=memory, spread=spread, residual_rms=self.residual_rms.to(device))

    @property
    def device(self) -> torch.device:
        """The device that the networks are on."""
        return self.gan.encoder.weights[0].device

    @cached_property
    def completed(self) -> Completion:
        """The completion of records whose values are missing or say nothing."""
        return Completion(self.normaliser, self.kept)

    @cached_property
    def kernel(self) -> Kernel:
        """The compiled kernel with this scorer's networks and memory; on the CPU only."""
        assert self.device.type == "cpu", "on other devices, give records to a `DeviceScorer`"
        autoencoder = Autoencoder.of(self.gan, self.robust_scale(), self.search.prior)
        return Kernel(autoencoder, KeptRecords.of(self.memory), Discriminators.of(self.gan, self.spread))

    def _residual(self, normalised: Normalised, columns: NDArray[np.float32]) -> Floats:
        residual: Floats = (normalised.views - columns).astype(np.float64) * normalised.present
        return residual

    def _looks(self, normalised: Normalised, own: Indices) -> Iterator[Look]:
        records, context, present = self._tensors(normalised)
        for first in range(0, records.shape[1], TILE):
            rows = slice(first, first + TILE)
            skipped = torch.from_numpy(own[rows]).to(records.device)
            shown = _tile(records[:, rows], 1), _tile(context[rows], 0), _tile(present[rows], 0)
            yield look(self.gan, self.memory, self.robust_scale(), *shown, self.search.prior, skipped)

    def _tensors(self, normalised: Normalised) -> tuple[Tensor, Tensor, Tensor]:
        arrays = normalised.views, normalised.context, normalised.present
        records, context, present = (torch.from_numpy(array).to(self.device) for array in arrays)
        return records, context, present


def remembered(normaliser: Normaliser, gan: Gan, kept: NDArray[np.float32]) -> Memory:
    """The memory of kept records [record, feature] in the input's units, where the networks are."""
    normalised = normaliser(kept)
    device = gan.encoder.weights[0].device
    records, context = torch.from_numpy(normalised.views), torch.from_numpy(normalised.context)
    return Memory.of(gan, records.to(device), context.to(device))


def blocks(count: int) -> Iterator[slice]:
    """Rows that are normalised at once, block after block."""
    return (slice(first, first + BLOCK) for first in range(0, count, BLOCK))


def _tile(tensor: Tensor, rows: int, size: int = TILE) -> Tensor:
    """The tensor, filled up with zeros along the dimension `rows` to a whole tile."""
    lacking = size - tensor.shape[rows]
    if not lacking:
        return tensor.contiguous()
    filling = tensor.new_zeros(*tensor.shape[:rows], lacking, *tensor.shape[rows + 1 :])
    return torch.cat((tensor, filling), rows)
