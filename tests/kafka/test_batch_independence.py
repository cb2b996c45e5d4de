"""Alerts are a function of the log and the model: never of batches, workers or restarts."""

from itertools import count

import pytest
from workload import Running, alerts, committed, ends, feed, fresh_config, slotted, small_model, telemetry, until

from stream_detector.worker import judge as judge_module
from stream_detector.worker.output.transaction import Transaction

RECORDS = 4_500
THRESHOLD = {"window": 500, "warmup": 100, "target_alert_rate": 0.01}
GROUP = {"session_timeout_ms": 6_000, "transaction_timeout_ms": 5_000}


@pytest.fixture(scope="module")
def values():
    """Telemetry with anomalies, and with dead letters, which have offsets but no scores."""
    good = list(telemetry(RECORDS, seed=3, anomalies=0.04))
    good[50::97] = [b"not json"] * len(good[50::97])
    return good


@pytest.fixture
def config(broker):
    return fresh_config(broker, threshold=THRESHOLD, worker=GROUP)


@pytest.fixture(scope="module")
def oracle(values, broker):
    """What one worker finds that is never interrupted."""
    config = fresh_config(broker, threshold=THRESHOLD, worker=GROUP)
    feed(config, values)
    drain(config, batch=4_096)
    found = alerts(config)
    assert len(found) > 100
    assert {verdict.state for verdict in found.values()} == {"warming", "rolling"}
    return found


def drain(config, batch):
    """One worker, until all is committed."""
    with Running(slotted(config, "drain", batch_records=batch), small_model(), until_end=True) as running:
        running.join()
    assert committed(config) == ends(config)


@pytest.mark.parametrize("batch", [64, 1_000, 8_192])
def test_the_batch_limit_does_not_change_alerts(batch, config, values, oracle):
    """One worker finds the same alert ids, scores and thresholds with any batch limit."""
    feed(config, values)
    drain(config, batch)
    assert alerts(config) == oracle


def test_batches_that_grow_do_not_change_alerts(config, values, oracle, monkeypatch):
    """A worker whose turns are brief takes more and more at once, and finds the same."""
    limits, lasted = [], judge_module.BatchLimit.lasted

    def noting(limit, seconds):
        lasted(limit, seconds)
        limits.append(limit.messages)

    monkeypatch.setattr(judge_module, "FIRST", 64)
    monkeypatch.setattr(judge_module, "BRIEF", float("inf"))
    monkeypatch.setattr(judge_module.BatchLimit, "lasted", noting)
    feed(config, values)
    drain(config, batch=1_000)
    assert alerts(config) == oracle
    assert limits[:4] == [128, 256, 512, 1_000]


@pytest.mark.parametrize("batch", [64, 1_000, 8_192])
def test_three_workers_find_what_one_finds(batch, config, values, oracle):
    """Three workers that share the partitions find the same, with any batch limit."""
    slots = [slotted(config, f"slot-{n}", batch_records=batch) for n in range(3)]
    with (
        Running(slots[0], small_model()) as a,
        Running(slots[1], small_model()) as b,
        Running(slots[2], small_model()) as c,
    ):
        until(lambda: all(each.seen.partitions == 1 for each in (a, b, c)), "each worker has a partition")
        feed(config, values)
        until(lambda: committed(config) == ends(config), "all is committed")
    assert all(each.summary.records == RECORDS / 3 for each in (a, b, c))
    assert alerts(config) == oracle


@pytest.mark.telling
def test_commits_that_fail_beside_decoding_do_not_change_alerts(config, values, oracle, monkeypatch):
    """Where a commit fails while the next batch is being decoded, both are read again, and the same is found."""
    send, calls = Transaction._send_offsets, count()

    def sometimes(self, offsets, membership):
        return next(calls) not in {3, 8} and send(self, offsets, membership)

    monkeypatch.setattr(Transaction, "_send_offsets", sometimes)
    feed(config, values)
    drain(config, 500)
    assert next(calls) > 8
    assert alerts(config) == oracle


@pytest.mark.parametrize("batch", [64, 8_192])
def test_a_restart_in_the_middle_does_not_change_alerts(batch, config, values, oracle):
    """A worker that ends in the middle, and another that goes on, find what one alone finds."""
    feed(config, values[: RECORDS // 2])
    drain(config, batch)
    assert 0 < len(alerts(config)) < len(oracle)
    feed(config, values[RECORDS // 2 :])
    drain(config, batch)
    assert alerts(config) == oracle


def test_stops_under_load_do_not_change_alerts(config, values, oracle):
    """Workers stopped while records are on their way leave the same alerts, whatever the moment."""
    feed(config, values)
    stops = 0
    while committed(config) != ends(config):
        with Running(slotted(config, "short", batch_records=512, commit_interval_ms=20), small_model()) as running:
            until(lambda: running.seen.records > 0, "something is committed")
        stops += 1
    assert stops > 1
    assert alerts(config) == oracle
