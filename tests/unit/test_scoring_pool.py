"""Scoring beside decoding: by threads, and by whoever waits."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, current_thread

import numpy as np
import pytest
from small_models import correlated, numeric

from stream_detector.features import Encoded
from stream_detector.scoring_pool import ScoringPool


@pytest.fixture
def pool():
    return ScoringPool()


@pytest.fixture
def occupied(pool):
    """All scoring threads busy until this is called, or the test is over."""
    release = Event()
    busy = [pool._executor.submit(release.wait) for _ in range(pool.threads)]
    yield release.set
    release.set()
    for each in busy:
        each.result(10)


def test_who_waits_for_scores_computes_what_no_thread_has_begun(pool, occupied):
    """With no thread free the waiting one computes everything, each task once, the last first."""
    done = []
    tasks = [pool.submit(lambda at=at: done.append((at, current_thread())) or [at]) for at in range(3)]
    assert [pool.result(task) for task in tasks] == [[0], [1], [2]]
    assert done == [(at, current_thread()) for at in (2, 1, 0)]


def test_a_task_that_is_being_computed_is_left_to_whoever_began(pool, occupied):
    """The thread that comes to it later passes over it, and another who waits gets the same result."""
    begun, finish, times = Event(), Event(), []

    def compute():
        times.append(1)
        begun.set()
        finish.wait(30)
        return ["result"]

    task = pool.submit(compute)
    with ThreadPoolExecutor(2) as waiting:
        first = waiting.submit(pool.result, task)
        assert begun.wait(30)
        second = waiting.submit(pool.result, task)
        occupied()
        pool._executor.submit(int).result(30)  # the threads are past the task by now
        finish.set()
        assert [first.result(30), second.result(30)] == [["result"]] * 2
    assert times == [1]


def test_a_failure_is_raised_to_whoever_asks_for_it(pool, occupied):
    """A task that fails does not disturb the wait for another one, in whose course it was computed."""
    sound = pool.submit(lambda: ["sound"])
    broken = pool.submit(lambda: 1 / 0)
    assert pool.result(sound) == ["sound"]
    with pytest.raises(ZeroDivisionError):
        pool.result(broken)


def test_scores_do_not_depend_on_who_computed_them(pool):
    """Batches begun together and waited for in any order score to the bit as by `DetectorModel.score`."""
    model = numeric()
    parts = np.split(correlated(3_000, seed=5), [1, 700, 1_400, 2_900])
    waiting = [pool.begin(model, Encoded.whole(part)) for part in parts]
    for part, told in reversed(list(zip(parts, waiting, strict=True))):
        assert np.array_equal(told().columns(), model.score(part).columns())


def test_a_pool_ends_with_its_owner():
    """Pools share no thread and no task, and the threads of one that nobody holds any more end."""
    pool, other = ScoringPool(), ScoringPool()
    names = {pool.result(pool.submit(lambda: [current_thread().name]))[0] for _ in range(5)}
    threads = list(pool._executor._threads)
    assert other._executor._threads == set()
    del pool
    for thread in threads:
        thread.join(30)
    assert names
    assert not any(thread.is_alive() for thread in threads)
