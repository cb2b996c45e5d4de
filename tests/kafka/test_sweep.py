"""What an earlier producer of a slot left on the broker is not committed by the next one."""

import json
import time

import pytest
from workload import Running, alerts, everything, feed, fresh_config, small_model, telemetry, until

from stream_detector.kafka.clients import transactional_producer
from stream_detector.kafka.topics import end_offsets
from stream_detector.worker.output.transaction import SWEEP

TIMEOUT = 3.0  # seconds
WORKER = {"session_timeout_ms": 6_000, "transaction_timeout_ms": int(1000 * TIMEOUT)}


def leave_open(config, partitions):
    """A transaction of this worker's slot that nobody ends, with an alert in each partition."""
    producer = transactional_producer(config)
    producer.init_transactions()
    producer.begin_transaction()
    for partition in range(partitions):
        producer.produce(config.topics.alerts, json.dumps({"id": f"left {partition}"}).encode(), partition=partition)
    assert producer.flush(30) == 0
    return producer


def test_messages_that_a_broker_left_without_a_marker_are_aborted(private_broker):
    """A broker that comes back ends transactions without marking partitions that have no leader yet (KAFKA-20734)."""
    config = fresh_config(private_broker, worker=WORKER)
    left = leave_open(config, 3)
    private_broker.kill()
    time.sleep(TIMEOUT)  # so that the broker ends the transaction as soon as it is back, before it leads anything
    private_broker.restart()
    feed(config, telemetry(600, anomalies=0.2))
    with Running(config, small_model(), until_end=True) as running:
        assert running.join().flagged > 30
    del left
    assert not [found for found in everything(config, config.topics.alerts) if b"left" in found.value()]
    assert len(alerts(config)) == running.summary.flagged


@pytest.mark.parametrize("drift", [True, False])
def test_a_worker_begins_with_a_message_to_each_partition_that_nobody_sees(broker, drift):
    """Every partition of the topics a worker writes to gets a marker of its own before the worker's first commit."""
    config = fresh_config(broker, worker=WORKER, drift={"enabled": drift})
    names = (config.topics.alerts, config.topics.dead_letters, *(config.topics.control,) * drift)
    with Running(config, small_model()) as running:
        until(lambda: running.seen.partitions == 3, "the worker reads")
    for name in names:
        found = everything(config, name, isolation="read_uncommitted")
        assert {message.partition() for message in found} == {at for _, at in end_offsets(config.kafka, [name])}
        assert {message.key() for message in found} == {SWEEP}
        assert not everything(config, name)
