"""The contract of generator inversion, and the traps that public implementations fell into."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import correlated, numeric

from stream_detector.scoring.inversion import Problem, refine, solve_spd, start


def problem_of(model, matrix):
    normalised = model.scorer.normaliser(matrix)
    records = torch.from_numpy(normalised.views).repeat_interleave(model.config.model.members, 0)
    context = torch.from_numpy(normalised.context).expand(len(records), -1, -1)
    return Problem(records, context, torch.from_numpy(normalised.present)[None], model.config.model.prior)


@given(st.integers(0, 10_000), st.floats(1e-3, 10))
@settings(max_examples=25, deadline=None)
def test_more_steps_never_raise_the_objective(seed, damping):
    """Whatever the record and the damping, every further step leaves the objective as it is or lowers it."""
    model = numeric()
    wild = correlated(16, seed) * np.float32(10.0 ** (seed % 5 - 1))
    problem = problem_of(model, wild)
    begun = start(model.scorer.gan, problem)
    objectives = [refine(model.scorer.gan, problem, begun, steps, damping).objective for steps in range(6)]
    assert torch.equal(objectives[0], begun.objective)
    for fewer, more in pairwise(objectives):
        assert (more <= fewer).all()


def test_search_lowers_the_objective_of_most_records():
    """The search is worth its name: after two steps most records are better explained than by the encoder."""
    model = numeric()
    problem = problem_of(model, correlated(200, 5))
    begun = start(model.scorer.gan, problem)
    found = refine(model.scorer.gan, problem, begun, 2, 0.05)
    assert (found.objective < begun.objective).float().mean() > 0.8


def test_search_ends_near_what_gradient_descent_finds():
    """Eight Gauss-Newton steps gain, on average, most of what 500 Adam steps gain from the same start."""
    model = numeric()
    problem = problem_of(model, correlated(64, 7))
    gan = model.scorer.gan
    begun = start(gan, problem)
    latent = begun.latent.clone().requires_grad_()
    optimiser = torch.optim.Adam([latent], 0.02)
    for _ in range(500):
        optimiser.zero_grad()
        residual = (problem.records - gan.generate(latent, problem.context)) * problem.present
        loss = residual.square().sum(2) + problem.prior * latent.square().sum(2)
        loss.sum().backward()
        optimiser.step()
    found = refine(gan, problem, begun, 8, 0.05)
    gain, gain_of_descent = ((begun.objective - end).mean() for end in (found.objective, loss.detach()))
    assert gain >= 0.6 * gain_of_descent


def test_scoring_changes_no_weight():
    """Scoring, searching and explaining leave every tensor of the model as it was."""
    model = numeric()
    before = model.to_bytes()
    model.score(correlated(300, 1) * 3)
    model.explain(correlated(10, 2))
    assert model.to_bytes() == before


def test_every_record_has_its_own_latent():
    """Records that differ are explained by latents that differ, in every member."""
    model = numeric()
    problem = problem_of(model, correlated(40, 3))
    found = refine(model.scorer.gan, problem, start(model.scorer.gan, problem), 2, 0.05)
    for latents in found.latent:
        assert len({tuple(row.tolist()) for row in latents}) == 40


def test_what_is_missing_does_not_count():
    """A value that is missing has no part in the objective: any value in its place gives the same residual."""
    model = numeric()
    matrix = correlated(20, 4)
    matrix[:, 5] = np.nan
    problem = problem_of(model, matrix)
    latent = start(model.scorer.gan, problem).latent
    changed = problem.records.clone()
    changed[:, :, 5] += 100
    other = Problem(changed, problem.context, problem.present, problem.prior)
    generated = model.scorer.gan.generate(latent, problem.context)
    first, second = ((p.records - generated) * p.present for p in (problem, other))
    assert torch.equal(first, second)


@given(st.integers(1, 20), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_small_systems_are_solved(size, seed):
    """The batched elimination solves what the library solves."""
    rng = torch.Generator().manual_seed(seed)
    half = torch.randn(3, 5, size, size, generator=rng)
    matrix = half @ half.transpose(2, 3) + torch.eye(size)
    right = torch.randn(3, 5, size, generator=rng)
    expected = torch.linalg.solve(matrix.double(), right.double()).float()
    torch.testing.assert_close(solve_spd(matrix, right), expected, rtol=2e-3, atol=2e-3)
