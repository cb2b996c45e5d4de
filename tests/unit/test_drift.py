"""Drift is noticed once and soon, is not mistaken for anomalies, and does not depend on batches."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.drift import KSWIN

from stream_detector.config import DriftConfig
from stream_detector.drift import LATEST, SAMPLES, Monitor, _difference, _least_difference
from stream_detector.records import Contribution

CALM = DriftConfig(cooldown=10**9)


@dataclass
class Flagged:
    """As much of an alert as a monitor looks at."""

    offset: int
    contributions: tuple


def flagged(offset, *features):
    found = [Contribution(name, 1.0, 0.0, 0.7 / len(features), "high") for name in features]
    return Flagged(offset, (*found, *(Contribution(f"rest{n}", 1.0, 0.0, 0.15, "low") for n in range(2))))


def nines(rng, count, factor=1.0):
    """Scores of records of which all (factor 1) are like those that the model was calibrated on."""
    return (factor * rng.exponential(1 / np.log(10), count)).astype(np.float32)


def watch(scores, residuals=None, alerts=(), config=CALM, cuts=()):
    """What a monitor notices when the stream comes in batches cut at `cuts`."""
    monitor, found = Monitor(config), []
    residuals = scores if residuals is None else residuals
    edges = [0, *cuts, len(scores)]
    for first, end in pairwise(edges):
        part = [alert for alert in alerts if first <= alert.offset < end]
        found += monitor.update(np.arange(first, end), scores[first:end], residuals[first:end], part)
    return found


def test_a_steady_stream_shows_no_drift():
    """Half a million normal records give no false alarm, on either stream."""
    rng = np.random.default_rng(0)
    assert watch(nines(rng, 500_000), nines(rng, 500_000)) == []


@pytest.mark.parametrize("stream", ["score", "residual"])
def test_a_shift_is_noticed_within_a_few_thousand_records(stream):
    """Scores that rise by a half for good are noticed soon, once, and on the stream that shows them."""
    rng = np.random.default_rng(1)
    drifting = np.concatenate([nines(rng, 20_000), nines(rng, 20_000, 1.5)])
    steady = nines(rng, 40_000)
    [notice] = watch(*((drifting, steady) if stream == "score" else (steady, drifting)))
    assert (notice.detector, notice.stream) == ("adwin", stream)
    assert 20_000 <= notice.offset < 23_000


def test_another_shape_of_the_same_mean_is_noticed():
    """Scores that keep their mean and lose their spread are drift, too."""
    rng = np.random.default_rng(2)
    normal = nines(rng, 20_000)
    narrow = rng.normal(np.minimum(normal, 3).mean(), 0.05, 20_000).astype(np.float32)
    [notice] = watch(np.concatenate([normal, narrow]), nines(rng, 40_000))
    assert notice.detector == "kswin"
    assert 20_000 <= notice.offset < 26_000


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 1.2, 1.6]), st.integers(0, 3), st.sampled_from([1e-6, 1e-3, 0.05])
)
def test_shapes_are_told_apart_as_by_rivers_kswin(seed, factor, digits, alpha):
    """Whatever the samples, ties among them or not, and whatever alpha, the verdict is that of KSWIN's own test."""
    rng = np.random.default_rng(seed)
    samples = np.concatenate([nines(rng, SAMPLES - LATEST), nines(rng, LATEST, factor)]).astype(float).round(digits)
    kswin = KSWIN(alpha, SAMPLES, LATEST, seed=0, window=samples[:-1].tolist())
    kswin.update(samples[-1])
    assert (_difference(samples) >= _least_difference(alpha)) == kswin.drift_detected


def test_a_burst_of_anomalies_is_no_drift():
    """A fault of sixty records far out of the ordinary is what alerts are for."""
    rng = np.random.default_rng(3)
    scores = nines(rng, 60_000)
    for start in (10_000, 30_000, 50_000):
        scores[start : start + 60] = 40.0
    assert watch(scores, nines(rng, 60_000)) == []


@pytest.mark.parametrize("seed", range(3))
def test_batches_do_not_matter(seed):
    """The same stream in other batches gives the same notices at the same offsets."""
    rng = np.random.default_rng(4)
    scores = np.concatenate([nines(rng, 9_000), nines(rng, 9_000, 2.0), nines(rng, 9_000)])
    alerts = [flagged(at, "cpu") for at in range(9_000, 18_000, 4)]
    config = DriftConfig(cooldown=1_000)
    whole = watch(scores, scores, alerts, config)
    cuts = sorted(np.random.default_rng(seed).choice(np.arange(1, 27_000), 300, replace=False).tolist())
    assert len(whole) > 5
    assert watch(scores, scores, alerts, config, cuts) == whole


def test_many_alerts_alike_are_one_change_of_regime():
    """Thousands of alerts that the same features dominate are reported once, with what they share."""
    scores = nines(np.random.default_rng(5), 10_000)
    alerts = [flagged(at, "latency", ("cpu", "memory")[at % 2]) for at in range(2_000, 10_000, 2)]
    [notice] = watch(scores, alerts=alerts)
    assert (notice.detector, notice.stream) == ("pattern", "residual")
    assert "latency high" in notice.features
    assert 2_000 < notice.offset < 2_400


def test_alerts_of_many_kinds_are_no_change_of_regime():
    """As many alerts, each for another reason, stay alerts; so do alerts alike that are few."""
    scores = nines(np.random.default_rng(6), 10_000)
    many = [flagged(at, f"feature{at % 40}") for at in range(0, 10_000, 2)]
    few = [flagged(at, "latency") for at in range(0, 10_000, 50)]
    for alerts in (many, few):
        assert watch(scores, alerts=alerts) == []


def test_after_the_cool_down_it_is_reported_again():
    """What goes on is reported once in so many offsets of the partition."""
    scores = nines(np.random.default_rng(7), 12_000)
    alerts = [flagged(at, "latency") for at in range(0, 12_000, 2)]
    found = watch(scores, alerts=alerts, config=DriftConfig(cooldown=4_000))
    offsets = [notice.offset for notice in found]
    assert len(offsets) == 3
    assert min(np.diff(offsets)) >= 4_000
