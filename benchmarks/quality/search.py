"""How much search helps: one fit, the inversion's objective after more and more of it.

Every row scores with the networks of the same model, so that only the search differs. Objectives of
the views are put on one scale by the training records, then averaged; nothing else is calibrated.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import stream_detector
from benchmarks.quality.data import Matrix
from benchmarks.quality.method import Method, Score
from benchmarks.quality.ours import engine_sources
from stream_detector import DetectorModel, ModelConfig
from stream_detector.scoring.inversion import Inversion, Problem, refine, start

__all__ = ["SEARCH"]

STEPS = (0, 1, 2, 4, 8)
ADAM_STEPS, ADAM_RATE = 500, 0.02
CHUNK = 1_024  # records searched for at once
REFERENCE = 1_000  # training records that put the views on one scale
FLOOR = 1e-6

Search = Callable[[Problem], Inversion]


def fit(train: Matrix, seed: int) -> Score:
    """The default model; scores by each search's objective."""
    model = stream_detector.fit(train, config=ModelConfig(), seed=seed, device="cpu")
    searches = _searches(model)
    usual = [_objectives(model, search, train[:REFERENCE]) for search in searches]

    def score(X: Matrix) -> list[NDArray[np.float64]]:
        found = [_objectives(model, search, X) for search in searches]
        return [
            ((each - at.mean(1, keepdims=True)) / at.std(1, keepdims=True)).mean(0)
            for each, at in zip(found, usual, strict=True)
        ]

    return score


def _searches(model: DetectorModel) -> list[Search]:
    gan, damping = model.scorer.gan, model.config.inversion.damping

    def gauss_newton(steps: int) -> Search:
        return lambda problem: refine(gan, problem, start(gan, problem), steps, damping)

    def free(problem: Problem) -> Inversion:
        unbound = Problem(problem.records, problem.context, problem.present, prior=0.0)
        return refine(gan, unbound, start(gan, unbound), max(STEPS), damping)

    return [*(gauss_newton(steps) for steps in STEPS), free, lambda problem: _adam(model, problem)]


def _adam(model: DetectorModel, problem: Problem) -> Inversion:
    """AnoGAN's search: gradient descent from the prior's mean, on the same objective."""
    generator = model.scorer.gan.map(torch.clone)  # tensors made for inference record no gradient
    width = start(generator, problem).latent.shape[2]
    latent = torch.zeros(*problem.records.shape[:2], width, requires_grad=True)
    adam = torch.optim.Adam([latent], ADAM_RATE, fused=True)

    def objective() -> torch.Tensor:
        residual = (problem.records - generator.generate(latent, problem.context)) * problem.present
        return residual.square().sum(2) + problem.prior * latent.square().sum(2)

    for _ in range(ADAM_STEPS):
        adam.zero_grad()
        objective().sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
    return Inversion(latent.detach(), objective().detach())


def _objectives(model: DetectorModel, search: Search, X: Matrix) -> NDArray[np.float64]:
    """Mean log objective [view, record] after a search."""
    views = len(model.scorer.normaliser.views)
    parts = []
    for first in range(0, len(X), CHUNK):
        found = search(_problem(model, X[first : first + CHUNK]))
        logs = np.log(found.objective.numpy().astype(np.float64) + FLOOR)
        parts.append(logs.reshape(views, -1, logs.shape[1]).mean(1))
    return np.concatenate(parts, axis=1)


def _problem(model: DetectorModel, X: Matrix) -> Problem:
    normalised = model.scorer.normaliser(X)
    views, context, present = map(torch.from_numpy, (normalised.views, normalised.context, normalised.present))
    records = views.repeat_interleave(len(model.scorer.gan.encoder.weights[0]) // len(views), 0)
    each = len(records)
    return Problem(records, context.expand(each, -1, -1), present.expand(each, -1, -1), model.scorer.prior)


SEARCH = Method(
    "search",
    (
        "search: the encoder's start",
        *(f"search: {steps} Gauss–Newton step{'s' * (steps > 1)}" for steps in STEPS[1:]),
        f"search: {max(STEPS)} steps, latent free of the prior",
        f"search: {ADAM_STEPS} Adam steps, as AnoGAN",
    ),
    fit,
    {"config": ModelConfig().model_dump(mode="json"), "steps": STEPS, "adam": [ADAM_STEPS, ADAM_RATE]},
    note="the inversion's objective alone, uncalibrated, every record searched for, all with the same networks",
    is_gan=True,
    is_ours=True,
    sources=(Path(__file__), *engine_sources()),
)
