"""Positions of owned partitions, and thresholds read back from a log."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.scoring.threshold import Limits, RollingThreshold
from stream_detector.worker.partitions.assignment import Assignment, OwnedPartition, PartitionState
from stream_detector.worker.partitions.restore import (
    NO_PAST,
    CaughtUp,
    Past,
    Restored,
    catch_up,
    earlier_scores,
    rebuild_threshold,
)
from stream_detector.worker.partitions.starts import Start

LIMITS = Limits(target_alert_rate=0.1, window=20, warmup=5, nominal=1.0, floor=0.5, ceiling=3.0)


@dataclass(frozen=True)
class At:
    """A message that is only a place."""

    where: tuple
    at: int

    def topic(self):
        return self.where[0]

    def partition(self):
        return self.where[1]

    def offset(self):
        return self.at

    def value(self):
        return b"ten bytes."


def messages(partition, *offsets):
    return [At(("t", partition), offset) for offset in offsets]


def start(offset, committed=True):
    return Start(offset, committed, low=0, high=100)


def reading(*partitions, offset=0):
    assignment = Assignment(judge=None)
    assignment.add([("t", partition) for partition in partitions])
    for partition in partitions:
        assignment.restore(("t", partition), start(offset), Restored(RollingThreshold(LIMITS)))
    return assignment


def test_the_offset_to_commit_is_the_last_taken_plus_one():
    """Offsets have gaps; what is committed is one past the last message taken, per partition."""
    assignment = reading(0, 1, 2)
    assignment.take(assignment.received(messages(0, 0, 1, 7) + messages(1, 3)))
    assert assignment.pending() == {("t", 0): 8, ("t", 1): 4}
    assignment.commit(assignment.pending())
    assert assignment.pending() == {}


def test_messages_of_partitions_that_are_not_read_are_dropped():
    """What comes from a partition given up, rewound or not yet restored is neither judged nor committed."""
    assignment = reading(0, 1, 2)
    assignment.drop([("t", 0)])
    assignment.rewind([("t", 1)])
    assert not assignment.take(assignment.received(messages(0, 0) + messages(1, 0) + messages(9, 0)))
    assert [owned.name for owned in assignment.restoring] == [("t", 1)]
    assert set(assignment.thresholds) == {("t", 2)}


def test_nothing_is_taken_twice():
    """A message below the next offset was taken before."""
    assignment = reading(0, offset=5)
    assert [m.offset() for m in assignment.take(assignment.received(messages(0, 4, 5, 5, 6, 3)))] == [5, 6]


@pytest.mark.parametrize("end", [True, False])
def test_what_was_received_before_a_partition_was_restored_is_not_taken(end):
    """Messages and ends received before an abort would leave out what is read again: they are dropped."""
    assignment = reading(0, offset=5)
    received = assignment.received(messages(0, 7, 8), [(("t", 0), 9)] if end else [])
    assignment.rewind([("t", 0)])
    assignment.restore(("t", 0), start(5), Restored(RollingThreshold(LIMITS)))
    assert not assignment.take(received)
    assert assignment[("t", 0)].next_offset == 5


def test_an_end_lies_behind_the_messages_received_with_it():
    """What lies before the end of a partition needs no reading, and the messages received with it are taken."""
    assignment = reading(0, offset=5)
    assert len(assignment.take(assignment.received(messages(0, 5, 6), [(("t", 0), 9)]))) == 2
    assert assignment.pending() == {("t", 0): 9}


def test_a_first_start_is_committed_before_any_record():
    """Where a group without an offset begins is put on record with the next commit."""
    assignment = Assignment(judge=None)
    assignment.add([("t", 0)])
    assignment.restore(("t", 0), start(0, committed=False), Restored(RollingThreshold(LIMITS)))
    assert assignment.pending() == {("t", 0): 0}


def test_a_partition_lost_while_it_was_being_restored_stays_lost():
    """Restoring a partition that is not owned any more does nothing."""
    assignment = reading(0)
    assignment.drop([("t", 0)])
    assignment.restore(("t", 0), start(3), Restored(RollingThreshold(LIMITS)))
    assert (assignment.reading, assignment.thresholds) == ([], {})


def test_a_rewind_forgets_all_but_the_committed_offset():
    """Whatever a partition holds while it is read is as in one that was just assigned; its start is to be looked up."""
    assignment = reading(0, offset=5)
    owned, new = assignment[("t", 0)], OwnedPartition(("t", 0))
    assignment.take(assignment.received(messages(0, 5, 6)))
    assignment.commit(assignment.pending())
    assignment.take(assignment.received(messages(0, 7)))
    owned.drift = owned.deviations = owned.shadow = owned.recent = "of the stream before"
    before = owned.epoch
    assignment.rewind([("t", 0)])
    told = vars(new).keys() - {"start", "recent"}
    assert {name: vars(owned)[name] for name in told} == {name: vars(new)[name] for name in told}
    assert vars(owned).keys() == vars(new).keys()
    assert (owned.state, owned.start_is_stale, owned.start.offset) == (PartitionState.RESTORING, True, 7)
    assert owned.recent.past() == NO_PAST
    assert before is not None


class Scores:
    """A judge whose scores follow from the offsets alone, and lie between floor and ceiling."""

    limits, limit, context_model = LIMITS, 7, None

    def scores(self, batch, context=None):
        return [0.5 + message.offset() * 7 % 25 / 10 for message in batch]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30))
def test_a_threshold_that_catches_up_is_the_one_rebuilt(known, more, kept):
    """However far a threshold was prepared, it is the one of a model that always served; else there is none."""
    log = messages(0, *range(known + more))
    past = Past(tuple(log[-kept:]), whole=kept >= len(log))
    prepared = RollingThreshold(LIMITS)
    prepared.learn(Scores().scores(log[:known]))
    found = catch_up(Scores(), past, CaughtUp(prepared, known - 1) if known else None)
    expected = RollingThreshold(LIMITS)
    expected.learn(Scores().scores(log))
    if found is None:
        assert kept < min(LIMITS.window, len(log))
    else:
        assert found.threshold.current() == expected.current()


def test_a_change_of_the_model_begins_all_that_depends_on_it_anew():
    """Threshold and drift are the next model's, the offsets go on; a partition without its window is named."""
    assignment = Assignment(judge=None, window=LIMITS.window)
    for partition, first in enumerate((0, 50)):
        assignment.add([("t", partition)])
        past = Past(tuple(messages(partition, *range(first))[:10]), whole=not first)
        assignment.restore(("t", partition), start(first), Restored(RollingThreshold(LIMITS), past))
    arrivals = assignment.take(assignment.received(messages(0, 0, 1, 2)))
    assignment.remember(arrivals)
    owned, judge = assignment[("t", 0)], Scores()
    before, owned.drift = owned.epoch, "of the model before"
    assert assignment.rebase(judge, {}) == [("t", 1)]
    assert (assignment.judge, owned.threshold.seen, owned.drift) == (judge, 3, None)
    assert (owned.epoch, owned.next_offset, owned.recent.last) == (before, 3, 2)


LOG = st.lists(st.one_of(st.none(), st.floats(0, 9, width=16)), max_size=120)


def chunks(log, step):
    """The log in chunks, latest first, as a bounded read backwards gives them."""
    for end in range(len(log), 0, -step):
        yield log[max(0, end - step) : end]


@settings(max_examples=200, deadline=None)
@given(LOG, st.integers(1, 30), st.integers(1, 40))
def test_earlier_scores_are_the_last_that_exist(log, step, count):
    """The last `count` scores before an offset come out in order, however sparse they are and however it is read."""
    scores = [score for score in log if score is not None]
    found = earlier_scores(chunks(log, step), lambda chunk: [s for s in chunk if s is not None], count)
    assert found == scores[-count:]


@settings(max_examples=200, deadline=None)
@given(LOG, st.integers(1, 30))
def test_a_rebuilt_threshold_equals_the_uninterrupted_one(log, step):
    """The threshold rebuilt from a log is the one that judged that log record by record, to the bit."""
    uninterrupted = RollingThreshold(LIMITS)
    uninterrupted.learn(score for score in log if score is not None)
    rebuilt = rebuild_threshold(LIMITS, chunks(log, step), lambda chunk: [s for s in chunk if s is not None])
    assert rebuilt.current() == uninterrupted.current()
