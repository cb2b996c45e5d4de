"""The newest records of the telemetry topics: records are counted, not offsets."""

import json
from collections import Counter
from threading import Timer

import pytest
from formats import batch
from workload import telemetry

from stream_detector.kafka import recent
from stream_detector.kafka.clients import transactional_producer
from stream_detector.retraining import first_fit
from stream_detector.retraining.telemetry_window import ArrivalCounter, TelemetryReader, read_window


@pytest.fixture
def written(make_config, produce):
    """Three partitions: 40 records in transactions of their own, a third of them aborted; 5 plain ones; none."""
    config = make_config()
    topic = config.topics.telemetry[0]
    producer = transactional_producer(config)
    producer.init_transactions(30)
    for number in range(40):
        producer.begin_transaction()
        producer.produce(topic, json.dumps({"features": {"a": number}}), partition=0)
        producer.flush(10)
        producer.abort_transaction() if number % 3 == 2 else producer.commit_transaction()
    produce(config, topic, [b'{"features":{"a":1}}'] * 5, partition=1)
    return config


@pytest.mark.parametrize(("count", "of_each"), [(6, (3, 3)), (20, (15, 5)), (32, (27, 5)), (1_000, (27, 5))])
def test_as_many_records_come_as_are_asked_for(written, count, of_each):
    """Equal shares, and what a short partition cannot give the longer ones do, however many offsets that takes."""
    messages = recent.newest(written, count)
    partitions = [message.partition() for message in messages]
    assert (partitions.count(0), partitions.count(1)) == of_each
    newest = [json.loads(m.value())["features"]["a"] for m in messages if m.partition() == 0]
    assert newest == [number for number in range(40) if number % 3 != 2][-of_each[0] :]


def test_a_fit_waits_for_records_not_for_offsets(written, produce, monkeypatch):
    """32 records lie on 85 offsets: a fit on 40 waits until eight more have come, and gets 40."""
    monkeypatch.setattr(first_fit, "POLL_SECONDS", 0.2)
    waited = []
    more = [b'{"features":{"a":2}}'] * 8
    Timer(2.0, produce, (written, written.topics.telemetry[0], more, 2)).start()
    messages = first_fit._awaited(written, 40, lambda *told: waited.append(told))
    assert len(messages) == 40
    assert waited[0] == (32, 40, "waiting for telemetry: 32 of 40 records")


def test_records_that_came_since_are_counted(written):
    """What decides whether there are enough to retrain on is records, too."""
    assert ArrivalCounter(written, 0).reach(32)
    assert not ArrivalCounter(written, 0).reach(33)


def test_a_window_counts_the_records_in_messages_that_hold_many(make_config):
    """Arrow batches in transactions, a single one of 100 rows in one partition and ten of 200 in the other: of 500
    records the longer partition gives what the short one cannot, and no message is read that they do not need.
    """
    config = make_config(record={"format": "arrow"}, retrain={"records": 500, "least_records": 100})
    rows = [json.loads(value) for value in telemetry(2_100, anomalies=0.0)]
    batches = [(0, rows[:100]), *((1, rows[first : first + 200]) for first in range(100, 2_100, 200))]
    producer = transactional_producer(config)
    producer.init_transactions(30)
    for partition, of_batch in batches:
        producer.begin_transaction()
        producer.produce(config.topics.telemetry[0], batch(of_batch), partition=partition)
        producer.commit_transaction()

    reach = recent.reach(config, config.retrain.records, size=TelemetryReader(config).size)
    topic = config.topics.telemetry[0]
    assert {place: span for place, span in reach.items() if place[1] < 2} == {(topic, 0): (0, 2), (topic, 1): (16, 20)}
    window = read_window(config, reach, lambda *_: None)
    assert Counter(record.source[1] for record in window.records) == {0: 100, 1: 400}
