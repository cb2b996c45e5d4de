"""Generator inversion: how badly the best latent explains a record.

After AnoGAN (Schlegl et al. 2017), with the encoder's latent as the start as in f-AnoGAN (2019) and
damped Gauss-Newton steps (Levenberg 1944, Marquardt 1963) in place of gradient descent. The
objective of a record x with latent z is ||x - G(z)||^2 + prior * ||z||^2, missing values left out.
Every record has its own latent and its own damping; the networks are only read.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_detector.gan.networks import Gan, Network

__all__ = ["Inversion", "Problem", "refine", "solve_spd", "start"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be explained: `records`, `context`, `present`, all [member, record, column]."""

    records: Tensor
    context: Tensor
    present: Tensor
    prior: float


@dataclass(frozen=True, slots=True)
class Inversion:
    """The best latents so far [member, record, latent] and their objective [member, record]."""

    latent: Tensor
    objective: Tensor


def start(gan: Gan, problem: Problem) -> Inversion:
    """The encoder's latents, and what they leave unexplained (the plain reconstruction score)."""
    latent = gan.encode(problem.records, problem.context)
    residual = _residual(problem, gan.generate(latent, problem.context))
    return Inversion(latent, _objective(problem, residual, latent))


def refine(gan: Gan, problem: Problem, begin: Inversion, steps: int, damping: float) -> Inversion:
    """At most `steps` damped Gauss-Newton steps; a step that would raise the objective is not taken."""
    factor = _factor(gan.generator.weights[-1])
    best = begin
    weight = torch.full_like(begin.objective, damping)
    for _ in range(steps):
        move = _step(gan.generator, factor, problem, best.latent, weight)
        latent = best.latent + move
        residual = _residual(problem, gan.generate(latent, problem.context))
        objective = _objective(problem, residual, latent)
        better = objective < best.objective
        best = Inversion(
            torch.where(better.unsqueeze(2), latent, best.latent), torch.where(better, objective, best.objective)
        )
        weight = torch.where(better, weight * 0.25, weight * 8.0)
    return best


def _residual(problem: Problem, generated: Tensor) -> Tensor:
    return (problem.records - generated) * problem.present


def _objective(problem: Problem, residual: Tensor, latent: Tensor) -> Tensor:
    return residual.square().sum(2) + problem.prior * latent.square().sum(2)


def _factor(last: Tensor) -> Tensor:
    """A factor R with R R' = W W' for a last layer W [member, hidden, column], as narrow as may be."""
    if last.shape[2] <= last.shape[1]:
        return last
    gram = torch.bmm(last, last.transpose(1, 2)).double()
    ridge = 1e-9 * gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + 1e-12
    identity = torch.eye(last.shape[1], dtype=gram.dtype, device=gram.device)
    factor: Tensor = torch.linalg.cholesky(gram + ridge * identity)
    return factor.to(last.dtype)


def _step(generator: Network, factor: Tensor, problem: Problem, latent: Tensor, damping: Tensor) -> Tensor:
    """The damped Gauss-Newton step [member, record, latent].

    The generator's last layer W is linear, so J = slopes @ W and J J' = slopes @ (W W') @ slopes':
    however many columns there are, the products are no wider than a hidden layer. Missing values are left out of the gradient alone;
    the curvature then is an upper bound, which only shortens the step.
    """
    width = latent.shape[2]
    features, slopes = generator.features_and_slopes(torch.cat((latent, problem.context), 2), width)
    residual = _residual(problem, generator.head(features))
    pulled = torch.bmm(residual, generator.weights[-1][:, :, : generator.outputs].transpose(1, 2))
    gradient = (slopes * pulled.unsqueeze(2)).sum(3) - problem.prior * latent
    half = torch.bmm(slopes.flatten(1, 2), factor).view(*slopes.shape[:3], -1)
    curvature = torch.matmul(half, half.transpose(2, 3))
    curvature.diagonal(dim1=2, dim2=3).add_((problem.prior + damping).unsqueeze(2))
    return solve_spd(curvature, gradient)


def solve_spd(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve many small symmetric positive definite systems, [..., n, n] and [..., n], at once.

    Elimination without pivoting, one column at a time for all systems: far quicker on a CPU than
    one library call a system, and the same bits wherever in a batch a system stands.
    """
    size = right.shape[-1]
    table = torch.cat((matrix, right.unsqueeze(-1)), -1).flatten(0, -3).permute(1, 2, 0).contiguous()
    for column in range(size - 1):  # systems lie along the last axis, where memory is contiguous
        factor = table[column + 1 :, column] / table[column, column]
        table[column + 1 :, column + 1 :] -= factor.unsqueeze(1) * table[column, column + 1 :]
    answer = table[:, size].clone()
    for column in range(size - 1, -1, -1):
        answer[column] /= table[column, column]
        answer[:column] -= table[:column, column] * answer[column]
    return answer.T.reshape(right.shape)
