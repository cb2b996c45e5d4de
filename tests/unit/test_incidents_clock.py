"""The event clock of a partition goes by its records alone, and is the same however they are read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.context.spec import NO_TIME
from stream_detector.incidents.event_clock import EventClock
from stream_detector.records.control_events import Progress

SECOND = 1_000_000_000  # nanoseconds
LONGEST = 60_000  # milliseconds
NOON = 1_767_268_800  # a multiple of 60 seconds

times = st.lists(st.none() | st.integers(-300, 3_000), max_size=30)


def nanoseconds(seconds):
    """Times so many seconds after noon, None for a record without one."""
    return np.array([NO_TIME if each is None else (NOON + each) * SECOND for each in seconds], np.int64)


def read(*batches, clock=None):
    """Seconds after noon that the clock reads at each record, and the positions of ticks."""
    clock, readings, ticks = clock or EventClock(LONGEST), [], []
    for batch in batches:
        told = clock.advance(nanoseconds(batch))
        ticks += (told.ticks + len(readings)).tolist()
        readings += [None if each == NO_TIME else (each - NOON * 1_000) / 1_000 for each in told.clock.tolist()]
    return readings, ticks


def test_the_clock_follows_the_newest_time():
    """Late records and records without a time move nothing; the first time sets it."""
    assert read([None, 10, 30, 20, None, 40])[0] == [None, 10, 30, 30, 30, 40]


def test_no_record_moves_the_clock_by_more_than_the_longest_step():
    """After five hours without a record it has gone on by a minute, so that nobody seems silent for them."""
    assert read([0, 5 * 3_600, 5 * 3_600 + 1])[0] == [0, 60, 61]


@pytest.mark.parametrize(
    ("seconds", "ticks"), [([0, 59, 60], [0, 2]), ([5, 59, 61, 119, 120, 121], [0, 2, 4]), ([None], [])]
)
def test_a_tick_is_a_record_that_crosses_a_minute(seconds, ticks):
    """The first record with a time is one, and then each that takes the clock over a multiple of 60 seconds."""
    assert read(seconds)[1] == ticks


@given(st.data(), times)
def test_batches_and_restarts_change_nothing(data, seconds):
    """However records are cut, and from whichever tick a worker goes on, every reading and tick is the same."""
    whole = read(seconds)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(seconds)), max_size=4)))
    parts = [seconds[start:end] for start, end in zip([0, *cuts], [*cuts, len(seconds)], strict=True)]
    assert read(*parts) == whole

    told = EventClock(LONGEST).advance(nanoseconds(seconds))
    for tick in told.ticks.tolist():
        progress = Progress("t", 0, tick, int(told.clock[tick]), int(told.newest[tick]))
        readings, ticks = read(seconds[tick + 1 :], clock=EventClock.after(progress, LONGEST))
        assert readings == whole[0][tick + 1 :]
        assert [tick + 1 + each for each in ticks] == [each for each in whole[1] if each > tick]


@given(times)
def test_the_clock_never_goes_back(seconds):
    """It is a running sum of steps from 0 to the longest one."""
    readings = [each for each in read(seconds)[0] if each is not None]
    assert all(0 <= step <= LONGEST / 1_000 for step in np.diff(readings))
