"""Brokers that go away, answers that never come, groups that never rest: nothing is lost, nothing comes twice."""

import random
import threading
import time

import pytest
from cluster import Cluster
from proxy import END_TXN, OFFSETS, Proxy
from workload import (
    IMPATIENT,
    THRESHOLD,
    Running,
    committed,
    ends,
    feed,
    fresh_config,
    left_by,
    slotted,
    small_model,
    telemetry,
    until,
)

from stream_detector.errors import BrokerUnavailableError
from stream_detector.kafka.embedded import EmbeddedBroker


def is_drained(config):
    return committed(config) == ends(config)


def trickle(config, values, pause=0.2, size=150):
    """Feeds values in slices in the background."""

    def write():
        for start in range(0, len(values), size):
            feed(config, values[start : start + size])
            time.sleep(pause)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_a_broker_restarted_and_killed(private_broker, oracle, values):
    """A broker that restarts, and one that is killed and comes back, cost time and nothing else."""
    config = fresh_config(private_broker, threshold=THRESHOLD, worker=IMPATIENT)
    third = len(values) // 3
    with Running(config, small_model()) as running:
        feed(config, values[:third])
        until(lambda: running.seen.records > 0, "the worker works")
        private_broker.restart()
        feed(config, values[third : 2 * third])
        until(lambda: is_drained(config), "all is committed after the restart")
        private_broker.kill()
        private_broker.restart()
        feed(config, values[2 * third :])
        until(lambda: is_drained(config), "all is committed after the kill")
    assert left_by(config) == oracle


def test_a_broker_that_stays_away_ends_the_run(private_broker):
    """After `unavailable_timeout_ms` without a broker the worker gives up, and says what to check."""
    config = fresh_config(private_broker, worker=IMPATIENT | {"unavailable_timeout_ms": 3_000})
    with pytest.raises(BrokerUnavailableError, match="bootstrap_servers"):
        left_alone(config, private_broker)


def left_alone(config, broker):
    with Running(config, small_model()) as running:
        until(lambda: running.seen.partitions == 3, "the worker reads")
        broker.kill()
        running.join()


@pytest.mark.parametrize("request_lost", [END_TXN, OFFSETS])
def test_answers_to_commits_that_never_come(oracle, values, request_lost):
    """Connections cut after offsets or commit were sent: the producer is replaced, and the broker's word is taken."""
    proxy = Proxy(request_lost)
    address = f"PLAINTEXT://127.0.0.1:{proxy.port}"
    with EmbeddedBroker(properties={"advertised.listeners": address}) as broker:
        proxy.target = int(broker.bootstrap_servers.rpartition(":")[2])
        config = fresh_config(broker, threshold=THRESHOLD, worker=IMPATIENT)
        writer = trickle(config, values)
        with Running(config, small_model()) as running:
            for _ in range(5):
                before = running.seen.commits
                until(lambda before=before: running.seen.commits > before, "the worker commits")
                proxy.cut = 1
                until(lambda: not proxy.cut, "a commit was cut off")
            writer.join()
            until(lambda: is_drained(config), "all is committed")
        assert running.summary.recreations >= 3  # two cuts may hit one producer
        assert running.summary.records == len(values)
        assert left_by(config) == oracle
    proxy.close()


@pytest.mark.timeout(600)
def test_each_of_three_brokers_restarted_and_killed(oracle, values):
    """Brokers of a replicated cluster that go away one after the other cost less time, and nothing else either."""
    with Cluster() as cluster:
        config = fresh_config(cluster, threshold=THRESHOLD, worker=IMPATIENT, topics={"replication": 3})
        writer = trickle(config, values, pause=0.6)
        with Running(config, small_model()) as running:
            until(lambda: running.seen.records > 0, "the worker works")
            for broker in cluster.brokers:
                broker.restart()
            for broker in cluster.brokers:
                broker.kill()
                before = running.seen.records
                until(lambda before=before: running.seen.records > before or not writer.is_alive(), "two suffice")
                broker.restart()
            writer.join()
            until(lambda: is_drained(config), "all is committed")
        assert running.summary.records == len(values)
        assert left_by(config) == oracle


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_that_never_rests(broker, oracle, values, protocol):
    """Workers that join and leave all the time leave what one undisturbed worker leaves, and get on with it."""
    config = fresh_config(broker, threshold=THRESHOLD, worker=IMPATIENT | {"group_protocol": protocol})
    rng, joined = random.Random(23), 0
    writer = trickle(config, values)
    with Running(slotted(config, "steady"), small_model()) as steady:
        while writer.is_alive():
            with Running(slotted(config, f"guest-{joined % 3}"), small_model()):
                time.sleep(rng.uniform(0.3, 2.0))
            joined += 1
        until(lambda: is_drained(config), "all is committed")
    assert joined >= 4
    assert steady.summary.rebalances > 4
    assert left_by(config) == oracle


def test_a_stream_that_rests_goes_on_without_an_abort():
    """Connections that the broker cuts while nothing is to do cost the next record no abort and no warning."""
    with EmbeddedBroker(properties={"connections.max.idle.ms": 6_000}) as broker:
        config = fresh_config(broker, threshold=THRESHOLD, worker=IMPATIENT)
        with Running(config, small_model()) as running:
            until(lambda: running.seen.partitions == 3, "the worker reads")
            for turn in range(1, 4):
                feed(config, telemetry(3, seed=turn))
                until(lambda turn=turn: running.seen.records == 3 * turn, "the records are committed")
                before = running.seen.recreations
                until(lambda before=before: running.seen.recreations > before, "the producer at rest is replaced")
                time.sleep(1)  # until its successor is at rest, too
        assert running.summary.aborts == 0
        assert running.summary.records == 9
