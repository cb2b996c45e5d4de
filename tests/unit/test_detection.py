"""Detection of synthetic anomalies: areas, confusion and curves agree, and larger anomalies are easier."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from stream_detector import Feature, FeatureSchema, Kind
from stream_detector.tracking.detection import auc, detection, roc
from stream_detector.tracking.synthetic import SIZES, Spread, displaced

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30).map(np.array)
MIXED = FeatureSchema(
    (
        Feature("load"),
        Feature("flag"),
        Feature("host", Kind.CATEGORICAL, vocabulary=("a", "b", "c")),
        Feature("site", context=True),
    )
)


def mixed(rows, seed=0):
    rng = np.random.default_rng(seed)
    columns = (rng.normal(50, 5, rows), rng.integers(0, 2, rows), rng.integers(0, 3, rows), rng.normal(size=rows))
    return np.stack(columns, axis=1).astype(np.float32)


@given(SCORES, SCORES)
def test_auc_equals_scikit_learn(normal, anomalous):
    """The area is scikit-learn's, ties included."""
    labels = np.r_[np.zeros(len(normal)), np.ones(len(anomalous))]
    assert auc(normal, anomalous) == pytest.approx(roc_auc_score(labels, np.r_[normal, anomalous]))


@given(SCORES, SCORES)
def test_the_curve_encloses_the_area(normal, anomalous):
    """The curve runs from (0, 0) to (1, 1), and the area under it is the area."""
    false, true = roc(normal, anomalous)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(false) >= 0).all()
    assert np.trapezoid(true, false) == pytest.approx(auc(normal, anomalous))


def test_confusion_counts_every_record_once():
    """Of 1,000 normal records 1 % exceed the threshold, and anomalies beyond it are all found."""
    rng = np.random.default_rng(0)
    sizes = np.repeat([0.0, 1.0, 9.0], [1000, 200, 300])
    found = detection("any", rng.normal(size=1500) + 2 * sizes, sizes)
    assert [one.size for one in found] == [1.0, 9.0]
    for one in found:
        assert (one.false_positives, one.true_negatives) == (10, 990)
    assert found[0].true_positives + found[0].false_negatives == 200
    assert (found[1].true_positives, found[1].auc) == (300, 1.0)


def test_anomalies_grow_with_their_size():
    """The farther a record is moved, the farther from normal it is, and every record is moved."""
    normal = np.random.default_rng(1).normal(size=(400, 5)).astype(np.float32)
    schema = FeatureSchema.numbered(5)
    spread = Spread.of(schema, normal)
    assert spread.width == pytest.approx(np.ones(5), abs=0.15)
    moved = [displaced(normal, spread, [False] * 5, size, np.random.default_rng(2)) - normal for size in SIZES]
    distances = [float(np.abs(one).mean()) for one in moved]
    assert distances == sorted(distances)
    assert distances[-1] / distances[0] == pytest.approx(SIZES[-1] / SIZES[0], rel=0.01)
    assert (moved[0] != 0).any(1).all()


def test_steps_stay_on_their_values_and_context_stays():
    """A category or a flag only takes values that records have; context is never moved."""
    normal = mixed(600)
    moved = displaced(normal, Spread.of(MIXED, normal), [False, False, False, True], 4.0, np.random.default_rng(0))
    assert (moved[:, 3] == normal[:, 3]).all()
    for column in (1, 2):
        assert set(np.unique(moved[:, column])) <= set(np.unique(normal[:, column]))
        assert (moved[:, column] != normal[:, column]).any()
    assert (moved[:, 0] != normal[:, 0]).any()


def test_a_rare_wild_value_does_not_set_the_width():
    """The width is that of the bulk, and a missing value stays missing."""
    column = np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32)
    column[0], column[1] = 1e6, np.nan
    spread = Spread.of(FeatureSchema.numbered(1), column)
    assert spread.width[0] == pytest.approx(1, abs=0.1)
    assert np.isnan(displaced(column, spread, [False], 1.0, np.random.default_rng(0))[1, 0])


def test_huge_values_stay_finite():
    """Moving a value near the end of float32 gives a finite one."""
    normal = np.linspace(-3e38, 3e38, 50, dtype=np.float32)[:, None]
    assert np.isfinite(
        displaced(normal, Spread.of(FeatureSchema.numbered(1), normal), [False], 8.0, np.random.default_rng(0))
    ).all()
