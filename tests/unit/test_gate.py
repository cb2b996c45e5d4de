"""The gate: every check lets through what is sound, and stops what is not."""

from functools import cache

import numpy as np
import pytest
from small_models import QUICK, correlated
from workload import contextual_model, entity_rows

from stream_detector import Feature, FeatureSchema, Kind
from stream_detector.config import ThresholdConfig
from stream_detector.config.retrain_section import GateSettings
from stream_detector.fitting.fit import HeldOut, fit
from stream_detector.gan.settings import ModelConfig
from stream_detector.retraining.contender import Contender, recoded
from stream_detector.retraining.gate import (
    HOLDOUT,
    KNOWN,
    LACKING,
    Check,
    GateResult,
    Trial,
    failures,
    run_checks,
    threshold_move,
)
from stream_detector.retraining.reference import Reference

pytestmark = pytest.mark.thorough

THRESHOLD = ThresholdConfig(target_alert_rate=0.02, window=500, warmup=100)
ALL = sorted(
    (
        "holdout-alert-rate",
        "synthetic-auc",
        "synthetic-auc-champion",
        "generator-coverage",
        "feedback-detection",
        "reference-auc",
        "reference-detection",
        "reference-detection-approved",
        "threshold-move",
        "threshold-move-approved",
    )
)
SETTINGS = GateSettings(least_coverage=0.02)


def fitted(rows, seed=0):
    """A contender fitted on `rows`."""
    train, selection, calibration = np.split(rows, [int(0.7 * len(rows)), int(0.8 * len(rows))])
    model = fit(
        train, config=ModelConfig(model=QUICK), seed=seed, device="cpu", held_out=HeldOut(selection, calibration)
    )
    return Contender.of(model, model.schema, THRESHOLD)


@cache
def sound():
    return fitted(correlated(1500))


@cache
def alike():
    """A challenger of the same kind of records."""
    return fitted(correlated(1500, 1), seed=1)


def apart(rows, seed=0):
    """Anomalies: correlated records whose second feature is far out."""
    moved = correlated(rows, seed)
    moved[:, 1] += 6
    return moved


def trial(**changes):
    rows = np.concatenate((apart(50, 3), correlated(50, 4)))
    given = {"holdout": correlated(800, 9), "known": apart(50, 8), "target": 0.02, "seed": 0}
    reference = Reference(rows, np.arange(100) < 50, "digest")
    return Trial(**given | {"reference": reference} | changes)


def failed(verdict):
    return {check.name for check in verdict.failed}


def test_a_model_like_the_champion_passes_every_check():
    """A challenger of the same kind of records is let through, and every check was made."""
    verdict = run_checks(alike(), sound(), sound(), trial(), SETTINGS)

    assert failed(verdict) == set()
    assert sorted(check.name for check in verdict.checks) == ALL
    assert verdict.unchecked == ()


def test_a_first_model_meets_only_the_checks_that_need_no_other():
    """Without a champion what remains are absolute checks, and they can fail."""
    verdict = run_checks(sound(), None, None, trial(), SETTINGS)

    assert verdict.passed
    assert [check.name for check in verdict.checks] == [
        "holdout-alert-rate", "synthetic-auc", "generator-coverage", "reference-auc",
    ]  # fmt: skip
    assert {each.name: each.why for each in verdict.unchecked} == {
        "synthetic-auc-champion": LACKING["champion"],
        "feedback-detection": LACKING["champion"],
        "reference-detection": LACKING["champion"],
        "reference-detection-approved": LACKING["approved"],
        "threshold-move": LACKING["champion"],
        "threshold-move-approved": f"{LACKING['champion']}; {LACKING['approved']}",
    }
    strict = GateSettings(least_auc=0.999, least_coverage=1.0)
    assert failed(run_checks(sound(), None, None, trial(), strict)) >= {"synthetic-auc", "generator-coverage"}


@pytest.mark.parametrize(("known", "reference"), [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize(("champion", "approved"), [(True, True), (True, False), (False, False)])
def test_every_check_is_made_or_said_to_be_missing(champion, approved, known, reference):
    """Whatever is lacking, nothing is left out in silence, and nothing said to be missing was made."""
    lacking = ({} if known else {"known": apart(0)}) | ({} if reference else {"reference": None})
    verdict = run_checks(
        sound(), sound() if champion else None, sound() if approved else None, trial(**lacking), SETTINGS
    )

    assert sorted(each.name for each in (*verdict.checks, *verdict.unchecked)) == ALL
    assert bool(verdict.unchecked) is True


def test_a_model_of_other_records_is_stopped():
    """Where the stream is not what was learnt, alerts flood and the threshold has moved."""
    elsewhere = trial(holdout=apart(800, 9))

    assert failed(run_checks(sound(), sound(), sound(), elsewhere, SETTINGS)) >= {"holdout-alert-rate"}


def test_a_model_that_learnt_the_anomalies_is_stopped():
    """Anomalies in the training data are missed afterwards: feedback, reference and threshold all say so."""
    rows = np.concatenate((correlated(900, 1), apart(600, 2)))
    poisoned = fitted(np.random.default_rng(0).permutation(rows))
    verdict = run_checks(poisoned, sound(), sound(), trial(), SETTINGS)

    assert failed(verdict) >= {"feedback-detection", "reference-detection", "reference-detection-approved"}
    assert any("feedback-detection is" in line and "at least" in line for line in failures(verdict))


def test_a_model_that_learnt_noise_is_stopped():
    """Who learnt no structure tells synthetic anomalies worse than the champion."""
    noise = np.random.default_rng(0).normal(size=(1500, 6)).astype(np.float32) * np.nanstd(correlated(500), 0)

    assert "synthetic-auc-champion" in failed(run_checks(fitted(noise), sound(), None, trial(), SETTINGS))


@pytest.mark.parametrize(
    ("setting", "check"),
    [("threshold_move", "threshold-move"), ("threshold_move_since_approval", "threshold-move-approved")],
)
def test_a_threshold_that_moves_farther_than_allowed_is_stopped(setting, check):
    """A challenger that asks for another threshold is refused by the very check that watches it, and by no other."""
    settings = SETTINGS.model_copy(update={setting: 1e-6})
    verdict = run_checks(alike(), sound(), sound(), trial(), settings)
    assert failed(verdict) == {check}


def test_the_threshold_move_has_a_direction():
    """Above 0 when more is let through than the champion would, below when less, 0 for the champion itself."""
    normal, drifted = correlated(800, 9), apart(800, 9)

    assert threshold_move(sound(), sound(), normal) == pytest.approx(0, abs=0.1)
    assert threshold_move(fitted(apart(1500, 1)), sound(), drifted) > 0.5


@pytest.mark.parametrize(
    ("figure", "least", "most", "passed"),
    [(0.5, 0.5, 0.5, True), (0.5, 0.51, None, False), (0.5, None, 0.49, False), (float("nan"), None, None, False)],
)
def test_limits_are_inclusive_and_no_number_fails(figure, least, most, passed):
    """A figure on its limit passes; one that could not be had does not."""
    check = Check("a", figure, least, most, "")

    assert check.passed is passed
    assert GateResult((check,)).passed is passed


def test_records_of_a_log_are_judged_by_their_contexts_and_others_alone():
    """Nines of contexts decide on the hold-out and on known anomalies, and on nothing that stands in no log."""
    model, rows = (
        contextual_model(),
        np.array([list(row.values()) for _, _, row in entity_rows(600, seed=4)], np.float32),
    )
    known = rows[:20]
    views = {HOLDOUT: np.full(len(rows), 6, np.float32), KNOWN: np.full(len(known), 6, np.float32)}
    alone, in_context = (Contender.of(model, model.schema, THRESHOLD, each) for each in ({}, views))
    tried = trial(holdout=rows, known=known, reference=None)
    figures = [
        {check.name: check.figure for check in run_checks(each, alone, alone, tried, SETTINGS).checks}
        for each in (alone, in_context)
    ]
    assert figures[0]["holdout-alert-rate"] < 0.2
    assert figures[1]["holdout-alert-rate"] == 1
    assert figures[0]["feedback-detection"] < 0.2
    assert figures[1]["feedback-detection"] == 1
    assert figures[0]["threshold-move"] > figures[1]["threshold-move"]
    for name in ("synthetic-auc", "generator-coverage"):
        assert figures[0][name] == figures[1][name]


def test_records_keep_their_meaning_in_another_schema():
    """Codes of categories are of one model only; another one has them in its own order, perhaps not at all."""
    ours = FeatureSchema((Feature("a"), Feature("kind", Kind.CATEGORICAL, vocabulary=("db", "new", "web"))))
    theirs = FeatureSchema((Feature("kind", Kind.CATEGORICAL, vocabulary=("cache", "db", "web")), Feature("a")))
    matrix = np.array([[1, 0], [2, 1], [3, 2], [4, 3], [5, np.nan]], dtype=np.float32)

    np.testing.assert_array_equal(
        recoded(matrix, ours, theirs), np.array([[1, 1], [3, 2], [2, 3], [3, 4], [np.nan, 5]], dtype=np.float32)
    )
