"""The rolling threshold against river's exact quantile, run by hand."""

from collections import deque

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from river.stats import RollingQuantile

from stream_detector.scoring.threshold import Limits, RollingThreshold

SCORES = st.lists(st.floats(0, 12, allow_nan=False).map(lambda x: round(x, 4)), min_size=1, max_size=300)


def limits(window=50, warmup=10, rate=0.05, floor=1.0, ceiling=6.0, nominal=3.0):
    return Limits(rate, window, warmup, nominal, floor, ceiling)


@given(SCORES, st.integers(2, 60), st.sampled_from([0.001, 0.05, 0.2]))
def test_equals_rolling_quantile_of_the_scores_before_at_every_offset(scores, window, rate):
    """At every offset the threshold is river's quantile over exactly the W scores before it, clamped."""
    threshold = RollingThreshold(limits(window, warmup=1, rate=rate))
    previous = deque(maxlen=window)
    for score in scores:
        judged = threshold.judge(score)
        if previous:
            by_hand = RollingQuantile(1 - rate, window)
            for earlier in previous:
                by_hand.update(earlier)
            assert judged.value == min(max(by_hand.get(), 1.0), 6.0)
        previous.append(score)


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
