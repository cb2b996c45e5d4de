"""What records lack or bring in numbers is noticed once, at the same offset however the stream is cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.config import DriftConfig
from stream_detector.drift import Deviations
from stream_detector.worker.delivery import NAMED, OTHERS, Tally

CALM = DriftConfig(cooldown=10**9)


def watch(lacking, usual=0.0, cuts=(), config=CALM):
    """Notices about a stream whose records lack `cpu` where it says so; offsets are every second one."""
    watched, found = Deviations(config, {"cpu": usual}), []
    for first, end in pairwise([0, *sorted(min(cut, len(lacking)) for cut in cuts), len(lacking)]):
        offsets = 2 * np.arange(first, end)
        rows = np.flatnonzero(lacking[first:end])
        found += watched.take(offsets, {"cpu": rows} if len(rows) else {}, {})
    return found


def gaps(share, count, seed=0):
    return np.random.default_rng(seed).random(count) < share


def test_a_feature_that_goes_missing_is_noticed_once():
    """Of 1,000 records a hundred that lack it are enough, told with the offset of the hundredth."""
    lacking = np.concatenate([gaps(0.0, 5_000), gaps(1.0, 5_000)])
    (notice,) = watch(lacking)
    assert (notice.offset, notice.detector, notice.features) == (2 * 5_099, "missing", ("cpu missing",))


@pytest.mark.parametrize("usual", [0.0, 0.3, 0.7])
def test_the_gaps_of_fitting_are_no_news(usual):
    """As many as the model's records had are not told in 100,000 records, a fifth more are."""
    usually = gaps(usual, 100_000)
    assert watch(usually, usual) == []
    assert len(watch(np.concatenate([usually, gaps(usual + 0.2, 5_000)]), usual)) == 1


@pytest.mark.parametrize("size", [64, 700, 30_000])
def test_a_few_now_and_then_do_not_add_up(size):
    """Gaps in one of fifteen records stay below a tenth for ever, in small batches and in large ones."""
    assert watch(np.arange(30_000) % 15 == 0, cuts=range(size, 30_000, size)) == []


def test_a_feature_nearly_always_missing_cannot_go_missing():
    """Where fitting had next to nothing of it there is no more to lack."""
    assert watch(gaps(1.0, 5_000), 0.95) == []


@given(
    lacking=st.lists(st.booleans(), min_size=1, max_size=400).map(np.array),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    cooldown=st.integers(0, 200),
)
def test_batches_change_nothing(lacking, cuts, cooldown):
    """The same notices at the same offsets, cool-downs between them, however the records are cut."""
    config = DriftConfig(cooldown=cooldown, regime_share=0.01)
    assert watch(lacking, cuts=cuts, config=config) == watch(lacking, config=config)


def test_features_of_one_offset_are_told_together():
    """A release that renames two features is one notice that names both."""
    every = np.arange(500)
    notices = Deviations(CALM, {}).take(every, {"b": every, "a": every}, {"host": every})
    assert [(notice.detector, notice.features) for notice in notices] == [
        ("missing", ("a missing", "b missing")),
        ("unseen", ("host new",)),
    ]


def test_dead_letters_in_numbers_are_told_by_reason():
    """A tenth of 1,000 offsets of one reason is a notice; a few now and then are none."""
    watched = Deviations(CALM, {})
    assert watched.bury({"undecodable": np.arange(0, 100_000, 50)}) == []
    (notice,) = watched.bury({"no-known-feature": np.arange(100_000, 100_500)})
    assert (notice.offset, notice.stream, notice.features) == (100_099, "records", ("no-known-feature",))


def test_the_names_of_a_metric_are_bounded():
    """However many features records lack, a hundred are counted by name and the others together; none is lost."""
    done = Tally()
    for at in range(3 * NAMED):
        one = Tally()
        one.missing[f"f{at}"] = 2
        done.merge(one)
    assert len(done.missing) == NAMED + 1
    assert (done.missing["f0"], done.missing[OTHERS]) == (2, 4 * NAMED)
