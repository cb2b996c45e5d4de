"""Scores mean tail probabilities, and keep their order without end."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.errors import DataError
from stream_detector.scoring.calibration import Calibration, TailTable, significant
from stream_detector.scoring.opinions import Panel, RawScores

EVEN = replace(Panel.of("combined"), weights=(1.0, 1.0, 1.0))
DIMENSIONS = 3.0
FINITE = st.floats(-1e6, 1e6)


def normal_scores(count=20_000, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 1))


@pytest.mark.parametrize("probability", [0.5, 0.1, 0.01, 0.001])
def test_nines_are_tail_probabilities_of_other_normal_records(probability):
    """Of normal records not used for the calibration, a share p scores -log10 p nines or more."""
    nines = TailTable.fit(normal_scores())(normal_scores(200_000, seed=1))[:, 0]
    share = (nines >= -np.log10(probability)).mean()
    assert probability / 1.6 < share < probability * 1.6


@given(st.lists(FINITE, min_size=20, max_size=300), st.lists(FINITE, min_size=2, max_size=20))
@settings(max_examples=200, deadline=None)
def test_nines_never_fall_as_the_raw_score_rises(learnt, scores):
    """For any calibration data, ties included, a higher raw score has no lower nines, and all are finite."""
    table = TailTable.fit(np.array(learnt)[:, None])
    nines = table(np.sort(scores)[:, None])[:, 0]
    assert np.isfinite(nines).all()
    assert (nines >= 0).all()
    assert (np.diff(nines) >= -1e-12).all()


def test_far_anomalies_still_rank():
    """Beyond everything seen, each raw score ten times higher scores strictly higher, to 6 digits."""
    table = TailTable.fit(normal_scores())
    nines = significant(table(10.0 ** np.arange(1, 30)[:, None])[:, 0])
    assert (np.diff(nines) > 0).all()


def test_a_common_value_is_not_a_rare_one():
    """A raw score that most normal records share counts as common, however many there are of it."""
    table = TailTable.fit(np.array([[1.0]] * 90 + [[2.0]] * 10))
    assert table(np.array([[1.0]]))[0, 0] < 0.1


def test_quantile_is_exceeded_by_its_share():
    """A model's held-out normal records exceed `quantile(p)` with share p."""
    raw = RawScores(EVEN.parts, np.random.default_rng(0).normal(size=(10_000, 8)))
    calibration = Calibration.fit(raw, EVEN, DIMENSIONS)
    anomaly = calibration(raw, EVEN)[2]
    for probability in (0.1, 0.01):
        assert abs((anomaly > calibration.quantile(probability)).mean() / probability - 1) < 0.15


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, float("nan")])
def test_quantile_refuses_what_is_no_tail(probability):
    """A tail probability outside (0, 1) is an error, not a number."""
    with pytest.raises(DataError, match=f"rate is {probability}"):
        Calibration.quantile(probability)


def raw_scores(rng, count, farther=0.0):
    """Logarithms of distances, alike and each with a part of its own: float64 [record, 4]; `farther` in deviations."""
    scores = 0.7 * rng.normal(size=(count, 1)) + 0.7 * rng.normal(size=(count, 4)) + farther
    return RawScores(EVEN.parts, scores)


@pytest.mark.parametrize("count", [20, 33, 66, 99])
def test_few_records_flag_what_is_far_and_next_to_nothing_else(count):
    """Calibrated again and again on few records, at most 1 in 1,000 new ones, and what is 8 deviations off, exceeds 3 nines.

    However the few were drawn, so does nearly all that is 6 deviations off.
    """
    rng = np.random.default_rng(count)
    normal, far, least = [], [], []
    for _ in range(100):
        calibration = Calibration.fit(raw_scores(rng, count), EVEN, DIMENSIONS)
        normal.append(calibration(raw_scores(rng, 2_000), EVEN)[2] > 3)
        far.append(calibration(raw_scores(rng, 100, 8.0), EVEN)[2] > 3)
        least.append((calibration(raw_scores(rng, 100, 6.0), EVEN)[2] > 3).mean())
    assert np.mean(normal) < 1e-3
    assert np.mean(far) > 0.99
    assert min(least) > 0.9


def test_few_records_alone_do_not_tell_how_wide_a_score_spreads():
    """Of 20 scores that spread three times as widely as is usual, or a third, the tail is nearer to the usual.

    It is theirs where no usual deviation is known, and of 200 scores.
    """
    usual = np.array([1.0, 1.0])
    few = normal_scores(20) * (3, 1 / 3) / normal_scores(20).std()
    wide, narrow = TailTable.fit(few, usual).scale
    assert 1 < wide < 2
    assert 2 / 3 < narrow < 1
    assert TailTable.fit(few, np.nan * usual).scale == pytest.approx((3, 1 / 3))
    enough = np.tile(few, (10, 1))
    assert TailTable.fit(enough, usual).scale == pytest.approx((3, 1 / 3))
    assert (TailTable.fit(enough, usual).scale == TailTable.fit(enough, 5 * usual).scale).all()


@pytest.mark.parametrize("count", [20, 33, 66, 200])
def test_few_surprises_that_always_agree_flag_little_more_than_asked_for(count):
    """Of scores with a tail twice as wide as is taken for usual, on average at most 4 in 1,000 new ones exceed 3 nines."""
    rng = np.random.default_rng(count)
    far = np.linspace(0, 40, 4001)[:, None]
    shares = []
    for _ in range(300):
        table = TailTable.fit(rng.exponential(1 / np.log(10), (count, 1)))
        shares.append(np.exp(-np.log(10) * far[np.searchsorted(table(far)[:, 0], 3.0), 0]))
    assert np.mean(shares) < 4e-3


def test_so_many_records_say_so_many_nines():
    """Up to where the tail begins no score has more nines than log10(records + 1), and the farther the more beyond."""
    scores = np.sort(normal_scores(30)[:, 0])
    nines = TailTable.fit(scores[:, None])(np.append(scores[:19], 10.0 ** np.arange(1, 7))[:, None])[:, 0]
    assert nines[18] <= np.log10(31)
    assert (np.diff(nines) > 0).all()


@given(st.floats(1e-6, 1e8), st.sampled_from([-1, 0, 1]))
def test_six_digits_are_kept(size, sign):
    """Rounding to 6 significant digits changes a value by at most 5 in the seventh, and twice is once."""
    value = np.array([size * sign])
    rounded = significant(value)
    assert abs(rounded[0] - value[0]) <= 6e-6 * abs(value[0])
    assert significant(rounded.astype(np.float64)) == rounded
