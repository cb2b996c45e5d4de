"""Generator inversion: how badly the best latent explains a record.

After AnoGAN (Schlegl et al. 2017), with the encoder's latent as the start as in f-AnoGAN (2019), and
with two restraints, for a free latent explains anomalies too. The search has a prior: the latents z_i
of the normal records nearest to the record x. And it is robust (Geman and McClure 1985): with the
residual r = x - G(z) and robust scales s it lowers sum_j r_j^2 / (1 + (r_j / s_j)^2) + prior * mean_i ||z - z_i||^2,
so the columns that normal latents explain decide where it goes, and those that they do not explain
stay unexplained. What the latent found is then judged by is the plain ||r||^2 + prior * mean_i
||z - z_i||^2. Missing values are left out. Every record has its own latent and its own damping; the
networks are only read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import islice

import torch
from torch import Tensor

from stream_detector.gan.networks import Gan

__all__ = ["Inversion", "Problem", "invert", "judged", "refine", "start"]

SHORTER = 0.5  # factor of the next step's length after a step that would have raised the objective
LONGER = 1.5  # factor of the next step's length after a step that was taken; a step is never longer than Newton's
FLATTEST = 0.3  # of a column's weight is left of its curvature where the robust loss bends down
CONJUGATE = 2  # iterations that solve for a step; what is solved is well conditioned, the prior sees to that
TINY = 1e-30
FLOOR = 1e-6  # of a misfit a column, or of a distance, before its logarithm


@dataclass(frozen=True, slots=True)
class Problem:
    """The records that latents are sought for: `records`, `context`, `present`, all [member, record, column].

    `known` [member, record, NEAR * latent] are the nearest records' latents side by side, `anchor`
    [member, record, latent] is their mean, `scatter` [member, record] their mean squared distance from
    it, `prior` the weight of both.
    """

    records: Tensor
    context: Tensor
    present: Tensor
    known: Tensor
    anchor: Tensor
    scatter: Tensor
    prior: float

    def map(self, change: Callable[[Tensor], Tensor]) -> "Problem":
        """Applies `change` to every tensor of the problem."""
        parts = (self.records, self.context, self.present, self.known, self.anchor, self.scatter)
        records, context, present, known, anchor, scatter = map(change, parts)
        return Problem(records, context, present, known, anchor, scatter, self.prior)

    def starts(self) -> Iterator[Tensor]:
        """Latents [member, record, latent] that a search could start from beside the encoder's, the likeliest first."""
        yield self.anchor
        width = self.anchor.shape[2]
        yield from (self.known[:, :, first : first + width] for first in range(0, self.known.shape[2], width))


@dataclass(frozen=True, slots=True)
class Inversion:
    """The best latents so far [member, record, latent], their objective, which the search lowers, and
    the misfit that they are judged by, both [member, record].
    """

    latent: Tensor
    objective: Tensor
    misfit: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Inversion":
        """Applies `change` to every tensor."""
        return Inversion(change(self.latent), change(self.objective), change(self.misfit))

    def better(self, other: "Inversion") -> tuple["Inversion", Tensor]:
        """For every record the one with the lower objective, and where that is the other."""
        lower = other.objective < self.objective
        pairs = zip((other.objective, other.misfit), (self.objective, self.misfit), strict=True)
        objective, misfit = (torch.where(lower, new, old) for new, old in pairs)
        latent = torch.where(lower.unsqueeze(2), other.latent, self.latent)
        return Inversion(latent, objective, misfit), lower


def start(gan: Gan, problem: Problem, robust_scale: Tensor) -> tuple[Inversion, Tensor]:
    """The encoder's latents (their misfit is the plain reconstruction score), and the residual.

    `robust_scale` [member, 1, column] is the residual at which a column has lost most of its weight.
    """
    latent = gan.encode(problem.records, problem.context)
    residual = _residual(problem, gan.generate(latent, problem.context))
    return _judged(problem, robust_scale, latent, residual), residual


def invert(gan: Gan, problem: Problem, robust_scale: Tensor, begun: Inversion, steps: int, starts: int) -> Inversion:
    """Refines latents from so many starts, the first of them where the search has `begun`; returns the best."""
    others = [judged(gan, problem, robust_scale, latent) for latent in islice(problem.starts(), starts - 1)]
    found = [refine(gan, problem, robust_scale, each, steps) for each in (begun, *others)]
    return reduce(lambda best, other: best.better(other)[0], found)


def refine(gan: Gan, problem: Problem, robust_scale: Tensor, begin: Inversion, steps: int) -> Inversion:
    """Takes at most `steps` damped steps; a step that would raise the objective is not taken.

    Steps are Newton's, with the robust loss's own curvature, kept above 0, and the generator's linear part
    for its Jacobian: it starts as an orthonormal map and stays near one. Conjugate gradients solve for them.
    """
    best = begin
    length = torch.ones_like(begin.objective)
    for _ in range(steps):
        latent = best.latent + length.unsqueeze(2) * _direction(gan, problem, robust_scale, best.latent)
        best, better = best.better(judged(gan, problem, robust_scale, latent))
        length = torch.where(better, (length * LONGER).clamp_max(1), length * SHORTER)
    return best


def judged(gan: Gan, problem: Problem, robust_scale: Tensor, latent: Tensor) -> Inversion:
    """Judges latents [member, record, latent]: their objective and misfit."""
    return _judged(problem, robust_scale, latent, _residual(problem, gan.generate(latent, problem.context)))


def _direction(gan: Gan, problem: Problem, robust_scale: Tensor, latent: Tensor) -> Tensor:
    """The step [member, record, latent] that solves (A C A' + prior) step = -gradient / 2, C being the curvatures."""
    width = latent.shape[2]
    generated, activations = gan.generator.with_activations(torch.cat((latent, problem.context), 2))
    residual = _residual(problem, generated)
    part = 1 + (residual / robust_scale).square()
    weight = problem.present / part.square()
    curvature = weight * (4 / part - 3).clamp_min(FLATTEST)
    gradient = gan.generator.vjp(residual * weight, activations)[:, :, :width]
    left = gradient - problem.prior * (latent - problem.anchor)
    if gan.generator.skip is None:
        return left / (1 + problem.prior)
    linear = gan.generator.skip[:, :width, : weight.shape[2]]
    step, along, size = torch.zeros_like(left), left, left.square().sum(2, keepdim=True)
    for _ in range(CONJUGATE):
        curved = torch.bmm(torch.bmm(along, linear) * curvature, linear.transpose(1, 2)) + problem.prior * along
        share = size / (along * curved).sum(2, keepdim=True).clamp_min(TINY)
        step, left = step + share * along, left - share * curved
        new = left.square().sum(2, keepdim=True)
        along, size = left + new / size.clamp_min(TINY) * along, new
    return step


def _residual(problem: Problem, generated: Tensor) -> Tensor:
    return (problem.records - generated) * problem.present


def _judged(problem: Problem, robust_scale: Tensor, latent: Tensor, residual: Tensor) -> Inversion:
    squared = residual.square()
    apart = problem.prior * ((latent - problem.anchor).square().sum(2) + problem.scatter)
    robust = (squared / (1 + squared / robust_scale.square())).sum(2)
    return Inversion(latent, robust + apart, squared.sum(2) + apart)
