"""What is computed of a tile of records: raw scores, and who lies beyond the screen."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stream_detector.gan.networks import Gan
from stream_detector.scoring.compiled.numbers import FLOOR
from stream_detector.scoring.device.columns import Columns
from stream_detector.scoring.device.nearest import StaticMemory
from stream_detector.scoring.discrimination import FeatureSpread, judge
from stream_detector.scoring.inversion import invert
from stream_detector.scoring.look import Look, look
from stream_detector.scoring.screen import NOBODY

if TYPE_CHECKING:
    from stream_detector.scoring.scorer import Scorer

__all__ = ["Judging"]


@dataclass(frozen=True, slots=True)
class Judging:
    """A scorer's networks, and its screen float64 [view, 1], on their device.

    `passes` says with which search a record is judged: without, and again with it if it lies beyond the
    screen, or at once with it.
    """

    columns: Columns
    gan: Gan
    memory: StaticMemory
    spread: FeatureSpread
    reach: Tensor
    start: Tensor
    usual: Tensor
    prior: float
    steps: int
    starts: int
    passes: tuple[bool, ...]

    @classmethod
    def of(cls, scorer: "Scorer") -> "Judging":
        """What a scorer needs on its device."""
        device = scorer.usual.device
        start, usual = (
            torch.from_numpy(part).double().to(device).unsqueeze(1)
            for part in (scorer.screen.start, scorer.screen.usual)
        )
        everyone = bool((scorer.screen.start == NOBODY).all())
        passes = ((True,) if everyone else (False, True)) if scorer.search.steps else (False,)
        return cls(
            Columns(scorer.normaliser, device),
            scorer.gan,
            StaticMemory.like(scorer.memory),
            scorer.spread,
            scorer.reach(),
            start,
            usual,
            scorer.search.prior,
            scorer.search.steps,
            scorer.search.starts,
            passes,
        )

    def __call__(self, rows: Tensor, own: Tensor, *, search: bool) -> tuple[Tensor, Tensor]:
        """Raw scores float64 [view * part, row] of rows [row, feature], and who lies beyond the screen [row].

        `own` [row] are the slots of the kept records that they are themselves, or nobody's.
        """
        records, context, present = self.columns(rows)
        seen = look(self.gan, self.memory, self.reach, records, context, present, self.prior, own)
        verdict, distance = judge(self.gan, self.spread, seen.evidence, context)
        starts = self._logs(seen.begun.misfit)
        parts = (
            self._searched(seen, starts) if search else starts,
            seen.nearness().double(),
            self._by_view((distance.double() + FLOOR).log()),
            self._by_view(verdict.double()),
        )
        return torch.stack(parts, 1).flatten(0, 1), (starts > self.start).any(0)

    def _searched(self, seen: Look, starts: Tensor) -> Tensor:
        """As `Screen.joined` [view, row], all of them having been searched for."""
        found = invert(self.gan, seen.problem, self.reach, seen.begun, self.steps, self.starts)
        refined = self._logs(found.misfit)
        if len(self.passes) == 1:
            return refined
        beyond = self.start + torch.logaddexp(torch.zeros_like(refined), refined - self.usual)
        return torch.where(starts > self.start, beyond, starts)

    def _logs(self, misfit: Tensor) -> Tensor:
        """Mean log misfits [view, row] of misfits [member, row]."""
        return self._by_view((misfit.double() + FLOOR * self.memory.records.shape[2]).log())

    def _by_view(self, scores: Tensor) -> Tensor:
        """Mean over the members of scores [member, row], [view, row]."""
        return scores.view(len(self.start), -1, scores.shape[1]).mean(1)
