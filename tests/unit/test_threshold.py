"""The rolling threshold against river's exact quantile, run by hand."""

from collections import deque
from math import inf

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from river.stats import RollingQuantile

from stream_detector.scoring.threshold import Limits, RollingThreshold

SCORES = st.lists(st.floats(0, 12, allow_nan=False).map(lambda x: round(x, 4)), min_size=1, max_size=300)
TIES = st.lists(st.sampled_from([0.0, 1.0, 1.5, 6.0, 7.0]), min_size=1, max_size=300)
SCORES = SCORES | TIES
RATES = st.sampled_from([0.001, 0.01, 0.05, 0.2, 0.499])
FLOORS = st.sampled_from([-inf, 0.0, 1.0, 1.5, 5.0])


def limits(window=50, warmup=10, rate=0.05, floor=1.0, ceiling=6.0, nominal=3.0):
    return Limits(rate, window, warmup, nominal, floor, ceiling)


@settings(max_examples=300, deadline=None)
@given(SCORES, st.integers(1, 60), RATES, FLOORS)
def test_equals_rolling_quantile_of_the_scores_before_at_every_offset(scores, window, rate, floor):
    """At every offset the threshold is river's quantile over exactly the W scores before it, clamped."""
    threshold = RollingThreshold(limits(window, warmup=1, rate=rate, floor=floor))
    previous = deque(maxlen=window)
    for score in scores:
        judged = threshold.judge(score)
        if previous:
            by_hand = RollingQuantile(1 - rate, window)
            for earlier in previous:
                by_hand.update(earlier)
            assert judged.value == min(max(by_hand.get(), floor), 6.0)
        previous.append(score)


@settings(max_examples=300, deadline=None)
@given(st.lists(SCORES, max_size=5), st.booleans(), SCORES, st.integers(1, 60), RATES, FLOORS)
def test_equals_rolling_quantile_after_batches_of_any_size(batches, judged, tail, window, rate, floor):
    """However the scores came in, learnt or judged, in small batches or ones beyond the window, the quantile is river's."""
    threshold, by_hand = RollingThreshold(limits(window, 1, rate, floor)), RollingQuantile(1 - rate, window)
    for batch in (*batches, tail):
        threshold.flag(batch) if judged else threshold.learn(batch)
        for score in batch:
            by_hand.update(score)
        assert threshold.current().value == min(max(by_hand.get(), floor), 6.0)


def test_equals_rolling_quantile_over_a_long_stream():
    """At the defaults' sizes too, over four windows, with ties, drift up and down, and a floor amid the scores."""
    rng = np.random.default_rng(0)
    scores = (rng.exponential(0.45, 40_000) * (1 + 0.5 * np.sin(np.arange(40_000) / 5_000))).round(3).tolist()
    own = limits(10_000, 1_000, 0.001, 2.6, 9.0, 2.8)
    threshold, by_hand = RollingThreshold(own), RollingQuantile(1 - own.target_alert_rate, own.window)
    found = {}
    for first in range(0, len(scores), 1_024):
        found |= {first + at: met.value for at, met in threshold.flag(scores[first : first + 1_024]).items()}
    expected = {}
    for at, score in enumerate(scores):
        met = own.nominal if at < own.warmup else min(max(by_hand.get(), own.floor), own.ceiling)
        if score > met:
            expected[at] = met
        by_hand.update(score)
    assert found == expected
    assert len({*found.values()}) > 10


@given(SCORES, st.integers(0, 300), st.sampled_from([0.5, 3.0, 8.0]))
def test_a_batch_is_flagged_as_its_scores_one_by_one(scores, cut, nominal):
    """Cut into batches anywhere, the same scores are flagged, at the same thresholds, as when judged one at a time."""
    alone, together = (RollingThreshold(limits(nominal=nominal)) for _ in range(2))
    expected = {at: met for at, score in enumerate(scores) if score > (met := alone.judge(score)).value}
    first = together.flag(scores[:cut])
    rest = {cut + at: met for at, met in together.flag(scores[cut:]).items()}
    assert first | rest == expected
    assert (together.seen, together.current()) == (alone.seen, alone.current())


@given(SCORES)
def test_a_score_never_meets_itself(scores):
    """The last score, however large, does not move the threshold it is held against."""
    calm, shocked = RollingThreshold(limits()), RollingThreshold(limits())
    for score in scores:
        calm.judge(score)
        shocked.judge(score)
    assert calm.judge(0.0) == shocked.judge(100.0)


@given(SCORES)
def test_never_leaves_floor_and_ceiling(scores):
    """Whatever the scores, the rolling threshold stays between floor and ceiling."""
    threshold = RollingThreshold(limits(warmup=1))
    for score in scores:
        judged = threshold.judge(score)
        assert judged.warming or 1.0 <= judged.value <= 6.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(3.6, 12), st.floats(0, 2))
def test_a_flood_is_flagged_however_long_it_lasts(seed, height, spread):
    """Four of five scores far above normal, for three windows: each of them is flagged, and hardly a normal one more."""
    rng = np.random.default_rng(seed)
    own = limits(window=1_000, warmup=200, rate=0.001, floor=2.6, ceiling=3.48)
    threshold = RollingThreshold(own)
    threshold.learn(rng.exponential(1 / np.log(10), 1_000))
    scores = rng.exponential(1 / np.log(10), 3_000)
    flood = rng.random(3_000) < 0.8
    scores[flood] = height + spread * rng.random(int(flood.sum()))
    flagged = threshold.flag(scores)
    assert set(np.flatnonzero(flood)) <= flagged.keys()
    assert max(met.value for met in flagged.values()) == own.ceiling
    assert len(flagged) - flood.sum() <= 10


def test_warms_up_on_the_calibrated_quantile():
    """Until `warmup` scores were seen the nominal threshold serves and says so."""
    threshold = RollingThreshold(limits(warmup=10))
    states = [threshold.judge(2.0) for _ in range(11)]
    assert [s.warming for s in states] == [True] * 10 + [False]
    assert {s.value for s in states[:10]} == {3.0}
    assert states[10].value == 2.0


@settings(max_examples=30)
@given(SCORES, st.integers(0, 300), st.integers(2, 60))
def test_rebuilt_from_the_last_window_it_goes_on_as_if_never_stopped(scores, cut, window):
    """A threshold that learns the W scores before a restart judges as the uninterrupted one."""
    cut = min(cut, len(scores))
    whole, rebuilt = RollingThreshold(limits(window, 2)), RollingThreshold(limits(window, 2))
    for score in scores[:cut]:
        whole.judge(score)
    rebuilt.learn(scores[max(0, cut - window) : cut])
    assert [whole.judge(s) for s in scores[cut:]] == [rebuilt.judge(s) for s in scores[cut:]]


def test_a_quantile_of_zero_still_flags():
    """A stream of zero scores has a threshold of the floor, not of infinity."""
    threshold = RollingThreshold(limits(warmup=1, floor=0.0))
    for _ in range(60):
        threshold.judge(0.0)
    assert threshold.current().value == 0.0
    assert np.isfinite(threshold.current().value)
