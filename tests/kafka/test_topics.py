"""Topics: created once, required by name, measured to the last committed record."""

import time
import uuid

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from stream_detector.errors import KafkaError, TopicMissingError
from stream_detector.kafka import topics
from stream_detector.kafka.clients import admin, transactional_producer


def test_creating_twice_changes_nothing(make_config):
    """The first call creates all five kinds, the second finds them, fit as they are."""
    names = [f"{uuid.uuid4()}" for _ in range(2)]
    config = make_config(create=False, topics={"telemetry": names, "partitions": 2})

    first, second = topics.create(config), topics.create(config)

    assert {result.state for result in first} == {"created"}
    assert {result.state for result in second} == {"existed"}
    assert [result.name for result in first] == [result.name for result in second]
    assert {result.warning for result in [*first, *second]} == {""}
    places = topics.end_offsets(config.kafka, names)
    assert places == dict.fromkeys([(name, partition) for name in names for partition in (0, 1)], 0)


def test_brokers_that_do_not_know_a_new_topic_yet_are_waited_for(make_config, monkeypatch):
    """Asked one after the other, some brokers of a cluster know a topic just created and some do not: it is created."""
    config, answers, existing = make_config(create=False), [False, True, False, False], topics._existing

    def answered(client, kafka):
        return existing(client, kafka) if not answers or answers.pop(0) else {}

    monkeypatch.setattr(topics, "_existing", answered)
    assert {result.state for result in topics.create(config)} == {"created"}
    assert not answers


def test_unfit_topic_is_warned_about(make_config):
    """A models topic that would throw models away is named, with what it has and what it should have."""
    config = make_config(create=False)
    name = config.topics.models
    new = NewTopic(name, 1, 1, config={"cleanup.policy": "delete", "max.message.bytes": "1000000"})
    client = admin(config.kafka)  # futures die with their client
    client.create_topics([new])[name].result(30)

    warnings = {result.name: result.warning for result in topics.create(config)}

    assert "cleanup.policy=delete (wanted compact)" in warnings.pop(name)
    assert set(warnings.values()) == {""}


def test_refused_topic_is_named(make_config):
    """What the broker refuses to create is an error that names the topic."""
    config = make_config(create=False, topics={"replication": 3})

    with pytest.raises(KafkaError, match=f"topic '{config.topics.telemetry[0]}' cannot be created"):
        topics.create(config)


def test_missing_topics_are_named_with_the_command(make_config):
    """A missing topic is named, an existing one is not, and the remedy is there."""
    config = make_config()

    topics.require(config.kafka, [config.topics.alerts])
    with pytest.raises(TopicMissingError, match=r"'no-such-topic'.*stream-detector topics create") as caught:
        topics.require(config.kafka, [config.topics.alerts, "no-such-topic"])

    assert config.topics.alerts not in str(caught.value)
    with pytest.raises(TopicMissingError, match="'no-such-topic'"):
        topics.watermarks(config.kafka, ["no-such-topic"])


def test_end_is_before_an_open_transaction(make_config, produce):
    """The end of a partition is what a read_committed reader can reach now."""
    config = make_config()
    name = config.topics.telemetry[0]
    produce(config, name, [b"1", b"2", b"3"])
    producer = transactional_producer(config)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"open", partition=0)
    producer.flush(10)

    assert topics.end_offsets(config.kafka, [name])[name, 0] == 3
    producer.commit_transaction()
    deadline = time.monotonic() + 20  # a commit is acknowledged before its markers are on every partition
    while topics.end_offsets(config.kafka, [name])[name, 0] == 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert topics.end_offsets(config.kafka, [name])[name, 0] == 5  # the record and the commit marker


def test_low_watermark_follows_deletion(make_config, produce):
    """What retention removed is below the low watermark."""
    config = make_config()
    name = config.topics.telemetry[0]
    produce(config, name, [b"x"] * 10)

    client = admin(config.kafka)
    next(iter(client.delete_records([TopicPartition(name, 0, 4)]).values())).result(30)

    assert topics.watermarks(config.kafka, [name])[name, 0] == topics.Watermarks(low=4, high=10)
