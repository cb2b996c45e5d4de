"""How much search helps: one fit, the inversion's misfit after more and more of it.

Every row scores with the networks of the same model, so that only the search differs. Misfits of
the views are put on one scale by the training records, then averaged; nothing else is calibrated.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import stream_detector
from benchmarks.quality.data import Matrix
from benchmarks.quality.method import Method, Score
from benchmarks.quality.ours import engine_sources
from stream_detector import DetectorModel, ModelConfig
from stream_detector.scoring.inversion import Inversion, Problem, invert, judged, refine, start
from stream_detector.scoring.look import look

__all__ = ["SEARCH"]

STEPS = (0, 1, 2, 4, 8)
THOROUGH = (32, 5)  # steps, and starts
ADAM_STEPS, ADAM_RATE = 500, 0.02
CHUNK = 1_024  # records searched for at once
REFERENCE = 1_000  # training records that put the views on one scale
FLOOR = 1e-6
EVERYTHING = 1e6  # a robust_scale that no residual has

Search = Callable[[Problem], Inversion]


def fit(train: Matrix, seed: int) -> Score:
    """The default model; scores by each search's misfit."""
    model = stream_detector.fit(train, config=ModelConfig(), seed=seed, device="cpu")
    searches = _searches(model)
    usual = [_misfits(model, search, train[:REFERENCE]) for search in searches]

    def score(X: Matrix) -> list[NDArray[np.float64]]:
        found = [_misfits(model, search, X) for search in searches]
        return [
            ((each - at.mean(1, keepdims=True)) / at.std(1, keepdims=True)).mean(0)
            for each, at in zip(found, usual, strict=True)
        ]

    return score


def _searches(model: DetectorModel) -> list[Search]:
    gan, robust_scale = model.scorer.gan, model.scorer.robust_scale()

    def damped(steps: int, robust_scale: torch.Tensor = robust_scale) -> Search:
        return lambda problem: refine(gan, problem, robust_scale, start(gan, problem, robust_scale)[0], steps)

    def free(problem: Problem) -> Inversion:
        return damped(max(STEPS))(replace(problem, prior=0.0))

    def thorough(problem: Problem) -> Inversion:
        return invert(gan, problem, robust_scale, start(gan, problem, robust_scale)[0], *THOROUGH)

    unmoved = damped(max(STEPS), torch.full_like(robust_scale, EVERYTHING))
    return [*(damped(steps) for steps in STEPS), thorough, unmoved, free, lambda problem: _adam(model, problem)]


def _adam(model: DetectorModel, problem: Problem) -> Inversion:
    """AnoGAN's search: gradient descent from the prior's mean, on the same objective."""
    generator = model.scorer.gan.map(torch.clone)  # tensors made for inference record no gradient
    robust_scale = model.scorer.robust_scale()
    latent = problem.anchor.clone().requires_grad_()
    adam = torch.optim.Adam([latent], ADAM_RATE, fused=True)
    for _ in range(ADAM_STEPS):
        adam.zero_grad()
        judged(generator, problem, robust_scale, latent).objective.sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
    return judged(generator, problem, robust_scale, latent.detach())


def _misfits(model: DetectorModel, search: Search, X: Matrix) -> NDArray[np.float64]:
    """Mean log misfit [view, record] after a search."""
    views = len(model.scorer.normaliser.views)
    parts = []
    for first in range(0, len(X), CHUNK):
        found = search(_problem(model, X[first : first + CHUNK]))
        logs = np.log(found.misfit.detach().numpy().astype(np.float64) + FLOOR)
        parts.append(logs.reshape(views, -1, logs.shape[1]).mean(1))
    return np.concatenate(parts, axis=1)


def _problem(model: DetectorModel, X: Matrix) -> Problem:
    scorer, normalised = model.scorer, model.scorer.normaliser(X)
    columns = map(torch.from_numpy, (normalised.views, normalised.context, normalised.present))
    return look(scorer.gan, scorer.memory, scorer.robust_scale(), *columns, scorer.search.prior).problem


SEARCH = Method(
    "search",
    (
        "search: the encoder's start",
        *(f"search: {steps} damped step{'s' * (steps > 1)}" for steps in STEPS[1:]),
        "search: {} steps from {} starts".format(*THOROUGH),
        f"search: {max(STEPS)} steps, not robust",
        f"search: {max(STEPS)} steps, free of the prior",
        f"search: {ADAM_STEPS} Adam steps, as AnoGAN",
    ),
    fit,
    {
        "config": ModelConfig().model_dump(mode="json"),
        "steps": STEPS,
        "thorough": THOROUGH,
        "adam": [ADAM_STEPS, ADAM_RATE],
    },
    note="the inversion's misfit alone, uncalibrated, every record searched for, all with the same networks",
    is_gan=True,
    is_ours=True,
    sources=(Path(__file__), *engine_sources()),
)
