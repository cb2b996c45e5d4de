"""Workers killed, frozen and doubled: nothing is lost, nothing comes twice."""

import random
import signal
import threading
import time

import pytest
from processes import Process
from workload import committed, ends, feed, left_by, until


@pytest.fixture
def stream(config, values):
    """Feeds the values in slices, slowly, in the background; `stream.join()` waits until all are written."""

    def write():
        for start in range(0, len(values), 150):
            feed(config, values[start : start + 150])  # a multiple of the partitions: the layout stays
            time.sleep(0.25)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def progress(config):
    return sum(offset or 0 for offset in committed(config).values())


def test_kill_9_at_any_moment(config, stream, oracle, tmp_path):
    """Workers killed at random moments under load, and restarted: alerts and dead letters are as without any of it."""
    rng = random.Random(17)
    workers = [Process(config, slot, tmp_path) for slot in ("one", "two")]
    kills = 0
    try:
        until(lambda: progress(config) > 0, "the first records are committed")
        while stream.is_alive() and kills < 6:
            time.sleep(rng.uniform(0.2, 2.5))
            victim = rng.randrange(2)
            workers[victim].kill()
            workers[victim] = Process(config, workers[victim].slot, tmp_path)
            kills += 1
        stream.join()
        until(lambda: committed(config) == ends(config), "all is committed")
        assert [worker.end() for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    assert kills >= 4
    assert left_by(config) == oracle


def test_a_zombie_leaves_no_trace(config, stream, oracle, tmp_path):
    """A worker frozen for longer than its session and its transaction last comes back to no effect, and works on."""
    with Process(config, "frozen", tmp_path) as frozen:
        until(lambda: progress(config) > 300, "the worker works")
        frozen.send(signal.SIGSTOP)
        with Process(config, "other", tmp_path) as other:
            before = progress(config)
            until(lambda: progress(config) > before + 600, "the other worker took over")
            frozen.send(signal.SIGCONT)
            stream.join()
            until(lambda: committed(config) == ends(config), "all is committed")
            assert (frozen.end(), other.end()) == (0, 0)
        assert "Traceback" not in frozen.log + other.log
    assert left_by(config) == oracle


def test_two_workers_of_one_slot(config, stream, oracle, tmp_path):
    """Of two workers with the same slot one ends with a message that says so; the other does the work."""
    with Process(config, "same", tmp_path) as first, Process(config, "same", tmp_path) as second:
        until(lambda: (first.code, second.code) != (None, None), "one worker gives up")
        loser, winner = (first, second) if first.code is not None else (second, first)
        assert loser.code == 5
        assert "kafka.slot" in loser.log
        assert "Traceback" not in loser.log
        stream.join()
        until(lambda: committed(config) == ends(config), "all is committed")
        assert winner.end() == 0
    assert left_by(config) == oracle


def test_sigterm_ends_a_transaction_properly(config, stream, oracle, tmp_path):
    """Told to end under load, a worker ends its transaction and leaves the group, and the next goes on where it ended."""
    for turn in range(3):
        with Process(config, f"turn-{turn}", tmp_path) as worker:
            before = progress(config)
            until(lambda before=before: progress(config) > before, "the worker works")
            assert worker.end() == 0
    stream.join()
    with Process(config, "last", tmp_path, "--until-end") as last:
        until(lambda: last.code is not None, "the bounded run ends")
        assert last.code == 0
    assert left_by(config) == oracle
