"""The slow poisoner: somebody moves a feature a little in every window, so that retraining learns the attack as normal."""

from functools import cache

import numpy as np
import pytest

from stream_detector.config import ThresholdConfig
from stream_detector.config.retrain_section import GateSettings
from stream_detector.features import FeatureSchema
from stream_detector.fitting.fit import HeldOut, fit
from stream_detector.gan.settings import ModelConfig
from stream_detector.retraining.contender import Contender
from stream_detector.retraining.gate import Trial, run_checks
from stream_detector.retraining.reference import Reference

SCHEMA = FeatureSchema.numbered(4)
THRESHOLD = ThresholdConfig(target_alert_rate=0.02, window=500, warmup=100)
CONFIG = ModelConfig(
    model={"steps": 150, "members": 1, "hidden": 16, "latent": 2, "batch": 64, "averaging": 0.97},
)
RETRAININGS = 50
STEP = 0.005  # of the feature's value, a window


def records(rows, seed, moved=0.0):
    """Four correlated features around 100; the first is `moved` by that share of itself."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(5).normal(size=(2, 4))
    matrix = 100 + 5 * (rng.normal(size=(rows, 2)) @ mix + 0.3 * rng.normal(size=(rows, 4)))
    matrix[:, 0] *= 1 + moved
    return matrix.astype(np.float32)


def reference():
    """What the attack will look like in the end, and normal records."""
    attack = records(100, seed=77)
    attack[:, 0] *= 1 + np.random.default_rng(1).uniform(0.15, 0.3, 100).astype(np.float32)
    anomalous = np.arange(200) < 100
    return Reference(np.concatenate((attack, records(100, seed=78))), anomalous, "digest")


@cache
def retrained(window):
    """A contender fitted on the records of that window, cut by time, and its hold-out; window 0 is the approved one."""
    rows = records(1500, window, STEP * window)
    train, selection, calibration, holdout = np.split(rows, [int(len(rows) * cut) for cut in (0.6, 0.7, 0.85)])
    model = fit(train, SCHEMA, CONFIG, window, "cpu", held_out=HeldOut(selection, calibration))
    return Contender.of(model, SCHEMA, THRESHOLD), holdout


def detection_after(retrainings, frozen):
    """Detection of the reference anomalies: the approved model's, and the serving one's after each retraining; and
    the checks that each retraining failed.
    """
    attack = reference().rows[reference().anomalous]
    approved, _ = retrained(0)
    champion, served, stopped_by = approved, [], []
    for window in retrainings:
        challenger, holdout = retrained(window)
        trial = Trial(holdout, holdout[:0], frozen, THRESHOLD.target_alert_rate, seed=0)
        verdict = run_checks(challenger, champion, approved, trial, GateSettings())
        champion = challenger if verdict.passed else champion
        served.append(champion.flagged(attack))
        stopped_by.append({check.name for check in verdict.failed})
    return approved.flagged(attack), served, stopped_by


@pytest.mark.slow
def test_the_frozen_reference_stops_the_slow_poisoner():
    """Over 50 retrainings with 0.5 % each, what serves never detects less than 95 % of what it did when approved;
    without the frozen reference it comes to detect less than that."""
    at_approval, guarded, stopped_by = detection_after(range(1, RETRAININGS + 1), reference())
    _, unguarded, _ = detection_after(range(10, RETRAININGS + 1, 10), None)

    assert at_approval > 0.7
    assert min(guarded) >= 0.95 * at_approval
    assert min(unguarded) < 0.95 * at_approval
    assert 0 < stopped_by.count(set()) < RETRAININGS
    assert any("reference" in name for name in stopped_by[-1])
