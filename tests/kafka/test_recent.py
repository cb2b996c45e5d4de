"""The newest records of the telemetry topics: records are counted, not offsets."""

import json
from threading import Timer

import pytest

from stream_detector.kafka import recent
from stream_detector.kafka.clients import transactional_producer
from stream_detector.retraining import first_fit
from stream_detector.retraining.telemetry_window import ArrivalCounter


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
