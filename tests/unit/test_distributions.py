"""Samples, densities and shares of a known distribution agree with each other."""

import numpy as np
import pytest

from stream_detector.errors import ConfigError
from stream_detector.tracking.distributions import DISTRIBUTIONS, distribution

NAMES = sorted(DISTRIBUTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_density_integrates_to_one(name):
    """Over a grid of two features the density sums to 1."""
    side = np.linspace(-40, 40, 801) if name in {"student", "lognormal"} else np.linspace(-9, 9, 361)
    side = side + 1e-4  # off the origin, where the rings' density has a pole
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    mass = np.exp(distribution(name).log_pdf(grid)).sum() * (side[1] - side[0]) ** 2
    assert mass == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_samples_follow_the_density(name):
    """Samples average the negative log density of fresh samples, and miss it where they are moved."""
    rng = np.random.default_rng(0)
    known = distribution(name)
    first, second = (known.sample(4000, 3, rng) for _ in range(2))
    surprise = [-known.log_pdf(records).mean() for records in (first, second)]
    assert surprise[0] == pytest.approx(surprise[1], abs=0.15)
    assert (-known.log_pdf(first + 2.5)).mean() > surprise[0] + 0.5


@pytest.mark.parametrize("name", NAMES)
def test_cdf_is_the_share_of_samples_below(name):
    """Where a closed form is given, it matches the share of samples in every feature."""
    values = np.linspace(-3, 3, 13)
    records = distribution(name).sample(20_000, 4, np.random.default_rng(1))
    if (expected := distribution(name).cdf(values)) is not None:
        observed = (records[:, :, None] <= values).mean(0)
        assert np.abs(observed - expected).max() < 0.015


def test_same_generator_same_samples():
    """Sampling draws from the generator it is given and from nothing else."""
    for known in DISTRIBUTIONS.values():
        draws = [known.sample(5, 3, np.random.default_rng(7)) for _ in range(2)]
        assert (draws[0] == draws[1]).all()


def test_unknown_name_is_refused_with_the_known_ones():
    """A wrong name is an error that lists what there is."""
    with pytest.raises(ConfigError, match=r"'gauss'.*correlated.*rings"):
        distribution("gauss")
