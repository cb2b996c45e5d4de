"""The checkpoint is chosen by a smoothed curve that no label has touched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.tracking.sweet_spot import Rule, sweet_spot
from stream_detector.tracking.tracker import measured_steps


def test_a_plateau_beats_a_lucky_peak():
    """One high value among low ones is luck; the middle of the broad maximum is chosen."""
    areas = [[0.5], [0.95], [0.5], [0.8], [0.85], [0.8], [0.6]]
    assert sweet_spot([1, 2, 3, 4, 5, 6, 7], areas).step == 5


def test_ties_go_to_the_earlier_step():
    """Where nothing is gained by going on, the earlier checkpoint is taken."""
    assert sweet_spot([10, 20, 30, 40], [[0.9, 0.7]] * 4).step == 10


def test_sizes_count_equally():
    """What is compared is the mean over the sizes, not any one of them."""
    spot = sweet_spot([1, 5, 9], [[0.5, 0.7], [0.9, 0.7], [0.2, 1.0]])
    assert spot.measured == pytest.approx((0.6, 0.8, 0.6))
    assert spot.auc == max(spot.smoothed)


def test_of_what_cannot_be_told_apart_the_least_trained_is_taken():
    """With a slack, the earliest step near enough to the highest is chosen, but none before the warm-up."""
    steps, areas = [1, 2, 3, 4, 5, 6], [[0.79], [0.6], [0.795], [0.795], [0.8], [0.8]]
    assert sweet_spot(steps, areas).step == 6
    assert sweet_spot(steps, areas, Rule(warm=2, slack=0.01)).step == 4
    assert sweet_spot(steps, areas, Rule(warm=5, slack=0.01)).step == 5
    assert sweet_spot(steps, areas, Rule(warm=100, slack=0.01)).step == 6


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_chosen_step_is_a_measured_one_with_the_highest_smoothed_area(areas):
    """Whatever the curve, the spot is on it, and nothing on it is higher."""
    steps = list(range(10, 10 * len(areas) + 10, 10))
    spot = sweet_spot(steps, [[area] for area in areas])
    assert spot.step in steps
    assert spot.auc == max(spot.smoothed)
    assert np.allclose(spot.measured, areas)


@given(st.integers(10, 200_000))
def test_measurements_rise_to_the_last_step(steps):
    """Steps to measure at are within the training, rise, are few, and end with its last."""
    measured = measured_steps(steps)
    assert measured == tuple(sorted(set(measured)))
    assert measured[0] >= 1
    assert measured[-1] == steps
    assert len(measured) <= 16
