"""Training is seeded, isolated and visible."""

import numpy as np
import torch
from small_models import QUICK, correlated

from stream_detector import ModelConfig, ModelSettings, fit
from stream_detector.gan.noise import corrupted, displacement

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


def test_negatives_are_displaced_over_the_whole_range():
    """Corrupted records lie from nearly nowhere to several standard deviations away, and none stays clean in all."""
    rng = torch.Generator().manual_seed(0)
    records = torch.randn(5000, 4, generator=rng)
    moved = corrupted(records, records[torch.randperm(5000, generator=rng)], torch.ones(1, 4), rng)
    far = displacement(moved, records, torch.ones(1, 4))
    assert torch.isfinite(moved).all()
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.8), (0.8, 1.6), (1.6, 99.0)):
        assert 0.03 < ((far >= low) & (far < high)).float().mean() < 0.6


def test_displacement_is_in_standard_deviations():
    """Every column moved by two of its standard deviations is a displacement of 2."""
    spread = torch.tensor([[1.0, 10.0]])
    records = torch.zeros(3, 2)
    assert displacement(records + 2 * spread, records, spread).tolist() == [2, 2, 2]
