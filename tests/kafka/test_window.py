"""Bounded reads: exactly the committed records of a range, whatever holes the log has."""

from itertools import accumulate

import pytest
from confluent_kafka import TopicPartition
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stream_detector.config import KafkaConfig
from stream_detector.errors import BrokerUnavailableError, TopicMissingError
from stream_detector.kafka import reads
from stream_detector.kafka.clients import admin, transactional_producer

RUNS = ((5, True), (3, False), (1, True), (1, False), (8, True), (4, False))  # records, committed?
STARTS = list(accumulate((count + 1 for count, _ in RUNS), initial=0))  # each ends in a marker, which takes an offset
END = STARTS[-1]
COMMITTED = [
    offset
    for start, (count, committed) in zip(STARTS, RUNS, strict=False)
    if committed
    for offset in range(start, start + count)
]


@pytest.fixture
def gappy(make_config):
    """A partition of committed and aborted transactions: holes within, and at the end."""
    config = make_config()
    producer = transactional_producer(config)
    producer.init_transactions(30)
    for start, (count, committed) in zip(STARTS, RUNS, strict=False):
        producer.begin_transaction()
        for offset in range(start, start + count):
            producer.produce(config.topics.telemetry[0], str(offset).encode(), partition=0)
        producer.flush(10)
        producer.commit_transaction() if committed else producer.abort_transaction()
    return config


def offsets(messages):
    assert all(int(message.value()) == message.offset() for message in messages)
    return [message.offset() for message in messages]


def read(config, start, end):
    batches = list(reads.read(config.kafka, config.topics.telemetry[0], 0, start, end))
    assert all(batches)
    return offsets([message for batch in batches for message in batch])


def backwards(config, end, step):
    return [offsets(chunk) for chunk in reads.backwards(config.kafka, config.topics.telemetry[0], 0, end, step)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(-3, END + 3), end=st.integers(-3, END + 3), step=st.integers(1, END + 3))
@example(start=-1, end=END, step=END)  # -1 and -2 mean end and beginning to the client
@example(start=-2, end=3, step=1)
def test_range_is_exact(gappy, start, end, step):
    """Forwards, and backwards in chunks that double, a range holds its committed records in order, once."""
    assert read(gappy, start, end) == [offset for offset in COMMITTED if start <= offset < end]

    chunks = backwards(gappy, end, step)

    assert [offset for chunk in reversed(chunks) for offset in chunk] == [
        offset for offset in COMMITTED if offset < end
    ]
    expected, reached = [], min(end, END)
    while reached > 0:
        first = max(0, reached - step)
        expected.append([offset for offset in COMMITTED if first <= offset < reached])
        reached, step = first, 2 * step
    assert chunks == [chunk for chunk in expected if chunk]


def test_large_records_come_in_shorter_chunks(gappy, monkeypatch):
    """Backwards, what is held at once is bounded by bytes, too; nothing is left out or comes twice."""
    most = 6
    monkeypatch.setattr(reads, "CHUNK_BYTES", most)
    chunks = backwards(gappy, END, END)
    assert [offset for chunk in reversed(chunks) for offset in chunk] == COMMITTED
    assert max(sum(len(str(offset)) for offset in chunk) for chunk in chunks) <= most


def test_what_retention_took_is_left_out(gappy):
    """A start that is no longer retained means the first record that is."""
    topic = gappy.topics.telemetry[0]
    client = admin(gappy.kafka)  # futures die with their client
    next(iter(client.delete_records([TopicPartition(topic, 0, 3)]).values())).result(30)

    kept = [offset for offset in COMMITTED if offset >= 3]
    assert read(gappy, 0, END) == kept
    assert backwards(gappy, END, 4)[-1][0] == kept[0]


def test_open_transaction_does_not_hang_the_reader(gappy):
    """Records of a transaction still open are not read, and not waited for."""
    producer = transactional_producer(gappy)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(gappy.topics.telemetry[0], b"open", partition=0)
    producer.flush(10)

    assert read(gappy, 0, END + 100) == COMMITTED
    producer.abort_transaction()


def test_reading_leaves_no_trace_in_the_groups(gappy):
    """A reader commits nothing and joins no group."""
    client = admin(gappy.kafka)

    def groups():
        return {group.group_id for group in client.list_consumer_groups().result(30).valid}

    before = groups()
    read(gappy, 0, END)
    assert groups() <= before


def test_large_range_comes_in_bounded_batches(make_config, produce):
    """A long range is handed out in batches, all of it and in order."""
    config = make_config()
    produce(config, config.topics.telemetry[0], [str(offset).encode() for offset in range(25_000)])

    batches = list(reads.read(config.kafka, config.topics.telemetry[0], 0, 10, 24_990))

    assert max(map(len, batches)) <= reads.BATCH
    assert offsets([message for batch in batches for message in batch]) == list(range(10, 24_990))


def test_missing_topic_and_missing_broker_are_named(make_config, monkeypatch):
    """What cannot be read is an error of ours, at once or after the time limit."""
    monkeypatch.setattr(reads, "TIMEOUT", 0.5)

    with pytest.raises(TopicMissingError, match="'no-such-topic'"):
        list(reads.read(make_config(create=False).kafka, "no-such-topic", 0, 0, 10))
    with pytest.raises(BrokerUnavailableError, match="'telemetry'"):
        list(reads.backwards(KafkaConfig(bootstrap_servers="127.0.0.1:1"), "telemetry", 0, 10, 10))
