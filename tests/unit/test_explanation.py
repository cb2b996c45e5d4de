"""What is said about a flagged record."""

import numpy as np
import pytest
from small_models import correlated, mixed, mixed_rows, numeric

from stream_detector.features import Feature, FeatureSchema, Kind
from stream_detector.scoring.explanation import explain


def by_name(explanation):
    return {feature.name: feature for feature in explanation.features}


def test_contributions_are_shares_of_one():
    """A record's contributions are 0 or more, sum to 1, and the greatest comes first."""
    for explanation in mixed().explain(mixed_rows(20, 1)) + numeric().explain(correlated(20, 1) * 5):
        shares = [feature.contribution for feature in explanation.features]
        assert min(shares) >= 0
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(("value", "direction"), [(500.0, "high"), (-400.0, "low")])
def test_the_wrong_feature_is_named_with_its_side(value, direction):
    """One wild number is the first feature explained, with the side it lies on and an expected value in range."""
    row = mixed_rows(1, 2)[0] | {"load": value}
    first = mixed().explain([row])[0].features[0]
    assert (first.name, first.value, first.direction) == ("load", value, direction)
    assert 20 <= first.expected <= 80


def test_an_unseen_category_is_unexpected():
    """A category that fitting never saw leads, and the expected one is a known category."""
    row = mixed_rows(1, 2)[0] | {"host": "intruder"}
    first = mixed().explain([row])[0].features[0]
    assert (first.name, first.direction) == ("host", "unexpected")
    assert first.expected in {"a", "b", "c"}


def test_a_changed_constant_leads():
    """A feature that never changed in training leads the explanation when it does."""
    row = mixed_rows(1, 2)[0] | {"fixed": 8.0}
    first = mixed().explain([row])[0].features[0]
    assert (first.name, first.direction, first.expected) == ("fixed", "high", 7.0)


def test_a_gap_is_said_to_be_missing():
    """A missing value has no observed value, the direction `missing`, and an expected value all the same."""
    row = mixed_rows(1, 2)[0] | {"spare": None}
    spare = by_name(mixed().explain([row])[0])["spare"]
    assert (spare.value, spare.direction) == (None, "missing")
    assert np.isfinite(spare.expected)


def test_the_very_category_that_was_expected_is_no_surprise():
    """A category equal to its expectation has no share, whatever its columns' residual."""
    schema = FeatureSchema((Feature("load"), Feature("host", Kind.CATEGORICAL, vocabulary=("a", "b"))))
    observed, expected = np.array([[9.0, 1.0]], dtype=np.float32), np.array([[2.0, 1.0]])
    (explanation,) = explain(schema, observed, expected, np.array([[1.0, 5.0]]), np.zeros((1, 2)))
    assert [(f.name, f.contribution, f.direction) for f in explanation.features] == [
        ("load", 1.0, "high"),
        ("host", 0.0, "expected"),
    ]


def test_numbers_are_shown_with_six_digits():
    """Values of any size are shown as their six significant digits name them, also when many are explained at once."""
    schema = FeatureSchema((Feature("a"), Feature("b")))
    rng = np.random.default_rng(3)
    observed = (rng.normal(size=(500, 2)) * 10.0 ** rng.integers(-12, 13, (500, 2))).astype(np.float32)
    observed[0] = 0.0, -0.0
    for row, explanation in zip(
        observed,
        explain(schema, observed, observed.astype(np.float64), observed**2, np.zeros_like(observed)),
        strict=True,
    ):
        shown = by_name(explanation)
        assert [shown[name].value for name in "ab"] == [float(f"{value:.6g}") for value in row.tolist()]
