"""From features to bounded columns and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream_detector import Feature, FeatureSchema, Kind
from stream_detector.scaling import learn_scales

ANY = st.floats(width=32, allow_nan=True, allow_infinity=False)
VIEWS = ("bounded", "soft")


def fitted(matrix, schema=None):
    return learn_scales(schema or FeatureSchema.numbered(matrix.shape[1]), matrix, VIEWS)


@given(arrays(np.float32, (20, 3), elements=ANY), arrays(np.float32, (5, 3), elements=ANY))
@settings(max_examples=100, deadline=None)
def test_columns_are_finite_whatever_was_learnt_and_whatever_comes(learnt, seen):
    """No training data and no record, however wild, constant or empty, makes a column that is not finite."""
    normalised = fitted(learnt)(seen)
    assert np.isfinite(normalised.views).all()
    assert np.abs(normalised.views).max(initial=0) < 1e12


@given(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=30))
@settings(deadline=None)
def test_order_is_kept_far_outside_the_training_range(values):
    """Of two values of a feature the greater never has the smaller column, in any view."""
    matrix = np.linspace(-3, 5, 50, dtype=np.float32)[:, None]
    ordered = np.sort(np.array(values, dtype=np.float32))[:, None]
    columns = fitted(matrix)(ordered).views[:, :, 0]
    assert (np.diff(columns, axis=1) >= 0).all()


def test_training_range_maps_linearly_and_back():
    """The `bounded` view is linear over the training range, with mean 0 and variance 1, and is inverted exactly."""
    matrix = np.linspace(10, 20, 11, dtype=np.float32)[:, None]
    normaliser = fitted(matrix)
    columns = normaliser(matrix).views[0]
    np.testing.assert_allclose(np.diff(columns[:, 0]), np.diff(columns[:, 0])[0], rtol=1e-5)
    assert (abs(columns.mean()), columns.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1))
    np.testing.assert_allclose(normaliser.inverse(columns, 0), matrix, rtol=1e-6)


@pytest.mark.parametrize(("view", "knee", "unit"), [(0, 1.0, 2.0), (1, 3.0, 1.0)])
def test_beyond_the_knee_columns_grow_as_a_logarithm(view, knee, unit):
    """A value t units beyond the knee of its view lies unit * log(1 + t / unit) beyond it."""
    matrix = np.linspace(-4, 4, 101, dtype=np.float32)[:, None]
    normaliser = fitted(matrix)
    half = 4.0 if view == 0 else float(matrix.std())
    inside, edge, beyond = normaliser(np.array([[0.0], [knee * half], [(knee + 7) * half]], np.float32)).views[
        view, :, 0
    ]
    slope = (edge - inside) / knee
    assert (beyond - edge) / slope == pytest.approx(unit * np.log1p(7 / unit), rel=1e-4)


def test_a_view_keeps_the_relative_scale_of_its_features():
    """One scale for all columns: their mean variance is 1, a wide feature stays wider than a narrow one."""
    rng = np.random.default_rng(0)
    matrix = np.stack((rng.uniform(0, 1, 2000), rng.normal(size=2000)), axis=1).astype(np.float32)
    bounded, soft = (view.var(0) for view in fitted(matrix)(matrix).views)
    assert (bounded.mean(), soft.mean()) == (pytest.approx(1, rel=1e-3), pytest.approx(1, rel=1e-3))
    assert bounded[0] > 2 * bounded[1]
    assert soft[0] == pytest.approx(soft[1], rel=0.05)


def test_a_constant_that_changes_jumps():
    """The smallest real change of a constant feature moves its column by as much as half a range."""
    normaliser = fitted(np.full((50, 1), 7.0, dtype=np.float32))
    same, changed = normaliser(np.array([[7.0], [7.001]], dtype=np.float32)).views[0][:, 0]
    assert same == 0
    assert changed >= 1


def test_a_gap_is_filled_marked_and_left_out():
    """A missing value takes the median's column, is not `present`, and sets its feature's mark."""
    matrix = np.array([[1.0], [2.0], [3.0], [np.nan]], dtype=np.float32)
    normalised = fitted(matrix)(np.array([[np.nan], [2.0]], dtype=np.float32))
    assert normalised.views[0, 0, 0] == normalised.views[0, 1, 0]
    assert normalised.present.tolist() == [[0, 1], [1, 1]]
    assert normalised.views[0, 0, 1] > normalised.views[0, 1, 1]


def test_every_category_has_a_column_and_unseen_ones_share_one():
    """A category sets exactly its own column; codes past the vocabulary set the last one."""
    schema = FeatureSchema((Feature("kind", Kind.CATEGORICAL, vocabulary=("a", "b")),))
    codes = np.array([[0], [1], [2], [9]], dtype=np.float32)
    normaliser = fitted(np.array([[0], [1]] * 9, dtype=np.float32), schema)
    columns = normaliser(codes).views[0]
    assert (columns > 0).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert normaliser.inverse(columns, 0)[:, 0].tolist() == [0, 1, 2, 2]


def test_many_categories_share_the_last_known_column():
    """A vocabulary beyond 128 categories needs no more than 129 columns."""
    schema = FeatureSchema((Feature("kind", Kind.CATEGORICAL, vocabulary=tuple(f"{i:03}" for i in range(300))),))
    normaliser = fitted(np.arange(300, dtype=np.float32)[:, None], schema)
    columns = normaliser(np.array([[127], [299], [300]], dtype=np.float32)).views[0].argmax(1)
    assert columns.tolist() == [127, 127, 128]


def test_midnight_is_near_to_midnight():
    """A cyclic feature comes round: 23:59 and 0:01 have nearly the same columns, and map back."""
    schema = FeatureSchema((Feature("hour", Kind.CYCLIC, period=24.0),))
    normaliser = fitted(np.linspace(0, 24, 48, dtype=np.float32)[:, None], schema)
    before, after = normaliser(np.array([[23.99], [0.01]], dtype=np.float32)).views[0]
    assert np.abs(before - after).max() < 0.01
    assert abs(normaliser.inverse(before[None], 0)[0, 0] - 23.99) < 0.001


def test_context_is_kept_apart_from_what_is_judged():
    """Columns of context features are in `context` and in no view."""
    schema = FeatureSchema((Feature("load"), Feature("hour", Kind.CYCLIC, context=True, period=24.0)))
    matrix = np.random.default_rng(0).uniform(0, 24, (50, 2)).astype(np.float32)
    normaliser = fitted(matrix, schema)
    normalised = normaliser(matrix)
    assert normaliser.columns == (1, 2)
    assert normalised.views.shape == (2, 50, 1)
    assert normalised.context.shape == (50, 2)


@given(arrays(np.float32, (40, 4), elements=ANY), st.integers(0, 39))
@settings(max_examples=60, deadline=None)
def test_a_record_has_the_same_columns_alone(matrix, row):
    """Normalising one record gives the bits it has in a batch."""
    normaliser = fitted(matrix[::-1])
    together, alone = normaliser(matrix), normaliser(matrix[row : row + 1])
    assert (together.views[:, row] == alone.views[:, 0]).all()
