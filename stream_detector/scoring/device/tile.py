"""Computes a tile of records: raw scores, and which records lie beyond the screen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from stream_detector.gan.memory import CHUNK, LEAF, NEAR, NOWHERE, Memory, least_positions
from stream_detector.gan.networks import Gan
from stream_detector.scoring.device.normalising import DeviceNormaliser
from stream_detector.scoring.discrimination import FeatureSpread, judge
from stream_detector.scoring.inversion import FLOOR, invert
from stream_detector.scoring.look import Look, Method, look
from stream_detector.scoring.scorer import Scorer

__all__ = ["StaticMemory", "TileScorer"]


class StaticMemory(Memory):
    """A `Memory` without shapes that depend on data, as a graph needs it.

    Slots beyond the kept records are nobody's; `own` is always given, and is the first of those slots for records
    that are not kept.
    """

    __slots__ = ()

    @classmethod
    def like(cls, memory: Memory) -> "StaticMemory":
        """Makes one of the same records."""
        keys = pad(memory.keys, (0, LEAF))
        keys[:, -1, -LEAF:] = NOWHERE
        return cls(memory.records, memory.latents, keys.contiguous())

    @property
    def nobody(self) -> int:
        """The slot that is nobody's."""
        return self.keys.shape[2] - LEAF

    @staticmethod
    def _search(query: Tensor, keys: Tensor, own: Tensor | None) -> Tensor:
        """Exact: the least three are in the three chunks with the least minima."""
        assert own is not None
        distances = torch.mm(query, keys).scatter_(1, own.unsqueeze(1), NOWHERE)
        rows, slots = distances.shape
        chunks = slots // CHUNK
        best = least_positions(distances.view(rows, CHUNK, chunks).amin(1), NEAR)
        offsets = torch.arange(0, slots, chunks, device=query.device)
        candidates = (best.unsqueeze(1) + offsets.unsqueeze(1)).flatten(1)
        return candidates.gather(1, least_positions(distances.gather(1, candidates), NEAR))


@dataclass(frozen=True, slots=True)
class TileScorer:
    """A scorer's networks, its screen float64 [view, 1], and other scorers with what they have learnt, on their device.

    `passes` says with which search a record is judged: without, and again with it if it lies beyond the
    screen, or at once with it.
    """

    normaliser: DeviceNormaliser
    gan: Gan
    memory: StaticMemory
    spread: FeatureSpread
    robust_scale: Tensor
    start: Tensor
    refined: Tensor
    prior: float
    steps: int
    starts: int
    passes: tuple[bool, ...]
    others: Sequence[tuple[Method, Sequence[Tensor]]]

    @classmethod
    def of(cls, scorer: Scorer) -> "TileScorer":
        """Puts what a scorer needs on its device."""
        device, screen = scorer.device, scorer.screen
        start, refined = (
            torch.from_numpy(part).double().to(device).unsqueeze(1) for part in (screen.start, screen.refined)
        )
        passes = ((True,) if screen.is_everyone else (False, True)) if scorer.search.steps else (False,)
        others = [
            (method, [torch.from_numpy(array).to(device) for array in scorer.learnt[name]])
            for name, method in scorer.panel.methods.items()
        ]
        return cls(
            DeviceNormaliser(scorer.normaliser, device),
            scorer.gan,
            StaticMemory.like(scorer.memory),
            scorer.spread,
            scorer.robust_scale(),
            start,
            refined,
            scorer.search.prior,
            scorer.search.steps,
            scorer.search.starts,
            passes,
            others,
        )

    def __call__(self, rows: Tensor, own: Tensor, *, search: bool) -> tuple[Tensor, Tensor]:
        """Raw scores float64 [view * part, row] of rows [row, feature], in the order of `Panel.parts`; and which lie beyond the screen [row].

        `own` [row] are the slots of the kept records that they are themselves, or nobody's.
        """
        records, context, present = self.normaliser(rows)
        seen = look(self.gan, self.memory, self.robust_scale, records, context, present, self.prior, own)
        verdict, distance = judge(self.gan, self.spread, seen.evidence, context)
        starts = self._logs(seen.begun.misfit)
        parts = (
            self._searched(seen, starts) if search else starts,
            seen.nearness().double(),
            self._by_view((distance.double() + FLOOR).log()),
            self._by_view(verdict.double()),
            *(method.by_tensors(learnt, seen).double() for method, learnt in self.others),
        )
        return torch.stack(parts, 1).flatten(0, 1), (starts > self.start).any(0)

    def _searched(self, seen: Look, starts: Tensor) -> Tensor:
        """Log misfits [view, row] after a search for all, joined with the starts as `Screen.joined` does."""
        found = invert(self.gan, seen.problem, self.robust_scale, seen.begun, self.steps, self.starts)
        refined = self._logs(found.misfit)
        if len(self.passes) == 1:
            return refined
        beyond = self.start + torch.logaddexp(torch.zeros_like(refined), refined - self.refined)
        return torch.where(starts > self.start, beyond, starts)

    def _logs(self, misfit: Tensor) -> Tensor:
        """Mean log misfits [view, row] of misfits [member, row]."""
        return self._by_view((misfit.double() + FLOOR * self.memory.records.shape[2]).log())

    def _by_view(self, scores: Tensor) -> Tensor:
        """Mean over the members of scores [member, row], [view, row]."""
        return scores.view(len(self.start), -1, scores.shape[1]).mean(1)
