"""Goodness of fit is 0 distance for equal distributions, and a number for mode collapse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.tracking.goodness import feature_fit, is_collapsed, joint_fit

RNG = np.random.default_rng


def modes(rows, count, columns=4, seed=0):
    """Records in `count` narrow clusters far from each other."""
    rng = RNG(seed)
    centres = 10 * RNG(1).normal(size=(10, columns))
    return centres[rng.integers(count, size=rows)] + rng.normal(size=(rows, columns))


def test_ks_and_wasserstein_of_known_shifts():
    """Uniform values moved by a quarter of their range have KS 1/4, and Wasserstein 1/4 over their deviation."""
    real = np.linspace(0, 1, 2001)
    fit = feature_fit(real, real + 0.25)
    assert fit.ks == pytest.approx(0.25, abs=0.01)
    assert fit.wasserstein == pytest.approx(0.25 * np.sqrt(12), rel=0.01)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=40), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_wasserstein_ignores_units(values, scale, shift):
    """A feature in other units has the same fit."""
    real = np.array(values)
    if np.ptp(real) < 1e-3:
        return
    one = feature_fit(real, real[::-1] * 0.5)
    other = feature_fit(real * scale + shift, real * 0.5 * scale + shift)
    assert other.wasserstein == pytest.approx(one.wasserstein, rel=1e-4, abs=1e-6)
    assert 0 <= one.ks <= 1


def test_constant_and_missing_features_have_no_fit():
    """A constant has no distribution to fit, and missing values do not spoil the others."""
    assert np.isnan(feature_fit(np.ones(9), RNG(0).normal(size=9)).ks)
    real = RNG(0).normal(size=500)
    gappy = np.where(RNG(1).random(500) < 0.3, np.nan, real)
    assert feature_fit(gappy, real).ks < 0.1


def test_equal_distributions_are_covered():
    """Fresh records of the same distribution cover the real ones, are precise, as varied, and at no distance."""
    fit = joint_fit(modes(400, 10), modes(400, 10, seed=5))
    assert fit.coverage > 0.9
    assert fit.precision > 0.9
    assert fit.density == pytest.approx(1, abs=0.15)
    assert fit.diversity == pytest.approx(1, abs=0.1)
    assert fit.energy < 0.02
    assert not is_collapsed(fit)


def test_coverage_counts_the_modes_that_are_left():
    """A generator that makes half of the modes covers about half of the records, and is precise all the same."""
    fit = joint_fit(modes(600, 10), modes(600, 5, seed=5))
    assert fit.coverage == pytest.approx(0.5, abs=0.1)
    assert fit.precision > 0.9
    assert not is_collapsed(fit)


@pytest.mark.parametrize("collapsed", [np.zeros((400, 4)), modes(400, 1, seed=5), modes(1, 10).repeat(400, 0)])
def test_a_collapsed_generator_is_recognised(collapsed):
    """One point, or one mode of ten, is a collapse."""
    assert is_collapsed(joint_fit(modes(400, 10), collapsed))


def test_narrow_latents_and_repeated_records_are_no_collapse():
    """Neither noise that a few components cannot carry, nor records that repeat, look like a collapse."""
    rng = RNG(0)
    wide = rng.normal(size=(400, 500)) + 0.25 * rng.normal(size=(400, 4)) @ rng.normal(size=(4, 500))
    axes = np.linalg.svd(wide, full_matrices=False)[2][:4]
    narrow = joint_fit(wide, wide[::-1] @ axes.T @ axes)
    assert not is_collapsed(narrow)
    assert narrow.diversity > 0.8
    repeated = rng.integers(0, 2, size=(400, 3)).astype(float)
    blurred = repeated[::-1] + 0.02 * rng.normal(size=(400, 3))
    assert joint_fit(repeated, blurred).coverage > 0.9
    assert not is_collapsed(joint_fit(np.ones((50, 2)), np.ones((50, 2)) + 1e-3 * rng.normal(size=(50, 2))))
