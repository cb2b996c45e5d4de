"""Training is seeded, isolated and visible."""

import numpy as np
import torch
from small_models import QUICK, correlated

from stream_detector import ModelConfig, ModelSettings, fit
from stream_detector.gan.negatives import noised, swapped

SHORT = ModelConfig(model=ModelSettings(steps=30))


def numpy_state():
    return np.random.get_state()[1].copy()  # noqa: NPY002 (it is the global state that must stay)


def test_same_seed_same_version_and_other_seed_another():
    """On one CPU the same records, settings and seed give the same bytes; another seed gives others."""
    records = correlated(200)
    versions = [fit(records, config=SHORT, seed=seed, device="cpu").version for seed in (3, 3, 4)]
    assert versions[0] == versions[1] != versions[2]


def test_fitting_leaves_global_random_state_alone():
    """Neither torch's nor NumPy's global random state is read or advanced by fitting."""
    torch.manual_seed(1)
    before, state = torch.get_rng_state(), numpy_state()
    first = fit(correlated(100), config=SHORT, device="cpu").version
    assert torch.equal(before, torch.get_rng_state())
    assert (state == numpy_state()).all()
    torch.manual_seed(2)
    assert fit(correlated(100), config=SHORT, device="cpu").version == first


def test_progress_is_reported_to_the_end():
    """Progress is called with rising steps and last with the total."""
    seen = []
    fit(correlated(100), config=ModelConfig(model=QUICK), device="cpu", progress=lambda *step: seen.append(step))
    assert [step for step, _, _ in seen] == sorted(step for step, _, _ in seen)
    assert seen[-1][:2] == (QUICK.steps, QUICK.steps)


def test_noise_reaches_the_levels_it_says():
    """Level by level noised records lie farther from the real ones; those of no level are untouched."""
    rng = torch.Generator().manual_seed(0)
    records = torch.zeros(2, 4000, 3)
    disturbed, reached = noised(records, torch.ones(2, 1, 3), rng)
    level = reached.sum(2)
    distance = disturbed.square().mean(2)
    assert distance[level == 0].max() == 0
    means = [float(distance[level == k].mean()) for k in range(7)]
    assert means == sorted(means)


def test_swapped_values_come_from_the_same_feature():
    """A swapped record holds only values that some real record has in the same feature."""
    rng = torch.Generator().manual_seed(0)
    records = torch.arange(60.0).view(1, 20, 3)
    mixed = swapped(records, rng)
    assert (mixed % 3 == records % 3).all()
    assert not torch.equal(mixed, records)
