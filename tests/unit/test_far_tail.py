"""A far tail among the records fitted on is told from a heavy one, and can be left out."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import QUICK

from stream_detector import ModelConfig, fit
from stream_detector.fitting.far_tail import FarTail


def parts(scores):
    """The same scores as two parts: float64 [record, 2]."""
    return np.stack((scores, 3 * scores + 1), axis=1)


@given(st.integers(0, 10_000), st.sampled_from(["normal", "exponential", "uniform"]), st.integers(40, 2_000))
@settings(max_examples=100)
def test_tails_that_fall_off_as_an_exponential_or_faster_are_not_far(seed, kind, count):
    """Of scores that thin out at least as fast as their middle says, next to none is far."""
    scores = getattr(np.random.default_rng(seed), kind)(size=count)
    assert FarTail.of(parts(scores)).holds(parts(scores)).mean() < 0.02


@pytest.mark.parametrize("share", [0.03, 0.05, 0.08])
def test_anomalies_beyond_the_tail_are_far(share):
    """Up to a twelfth of the records, far beyond all others, are found, and none of the others with them."""
    rng = np.random.default_rng(0)
    anomalous = rng.random(1_000) < share
    scores = rng.exponential(size=1_000) + 20 * anomalous
    assert np.array_equal(FarTail.of(parts(scores)).holds(parts(scores)), anomalous)


def test_equal_scores_have_no_far_tail():
    """Where nearly all scores are the same, a few that are higher are no far tail unless there are more than chance has."""
    assert not FarTail.of(np.zeros((100, 2))).holds(np.zeros((100, 2))).any()


@pytest.mark.thorough
def test_anomalies_among_the_records_are_named_and_can_be_left_out(caplog):
    """With 5 % anomalies to fit on, fit says so; trimmed, it flags anomalies like them, and not the normal records."""
    rng = np.random.default_rng(3)
    records = np.concatenate((rng.normal(size=(950, 8)), rng.uniform(-12, 12, (50, 8))))
    new, anomalies = rng.normal(size=(5_000, 8)), rng.uniform(-12, 12, (300, 8))
    with caplog.at_level(logging.WARNING):
        kept, trimmed = (
            fit(records, config=ModelConfig(model=QUICK), device="cpu", trim=trim) for trim in (False, True)
        )
    assert "taken for normal" in caplog.messages[0]
    assert "have no part" in caplog.messages[1]
    assert kept.lineage["far_tail"]["left_out"] == 0
    assert 0.02 < kept.lineage["far_tail"]["share"] == trimmed.lineage["far_tail"]["share"] < 0.08
    assert 30 <= trimmed.lineage["far_tail"]["left_out"] <= 55
    assert kept.score(anomalies).flagged(0.001).mean() < 0.5
    assert trimmed.score(anomalies).flagged(0.001).mean() > 0.9
    assert trimmed.score(new).flagged(0.001).mean() < 0.01
