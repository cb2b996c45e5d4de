"""Where partitions begin: many at once, and never in a topic that was created anew behind the offsets of the old one."""

import time

import pytest
from confluent_kafka import TopicPartition
from structlog.testing import capture_logs
from workload import Running, committed, ends, everything, feed, fresh_config, slotted, small_model, telemetry, until

from stream_detector.errors import BrokerUnavailableError, OffsetsLostError
from stream_detector.kafka import reads, topics
from stream_detector.kafka.clients import admin, worker_consumer
from stream_detector.kafka.topic_descriptions import described, ids
from stream_detector.worker import loop
from stream_detector.worker.partitions.restore import LogReader

THRESHOLD = {"window": 500, "warmup": 100, "target_alert_rate": 0.01}


@pytest.fixture
def config(broker):
    return fresh_config(broker, threshold=THRESHOLD)


def drain(config, **settings):
    return loop.run(slotted(config, "drain", **settings), small_model, until_end=True)


def topic_id(config):
    client, name = admin(config.kafka), config.topics.telemetry[0]
    return ids(described(client, [name], 10))[name]


def create_anew(config):
    """The telemetry topic deleted and made again, empty, under the same name."""
    client, before = admin(config.kafka), topic_id(config)
    [gone] = client.delete_topics(list(config.topics.telemetry)).values()
    gone.result()
    until(lambda: not described(client, config.topics.telemetry, 10) or not _is_there(client, config), "it is gone")
    topics.create(config)
    assert topic_id(config) != before


def _is_there(client, config):
    return bool(ids(described(client, config.topics.telemetry, 10)))


def test_many_partitions_are_placed_by_one_client(broker, monkeypatch):
    """Of forty partitions the empty ones need no client of their own, and those with a past share one; another looks
    whether the model fits.
    """
    config = fresh_config(broker, threshold=THRESHOLD, topics={"partitions": 40})
    feed(config, telemetry(300), partitions=3)
    assert drain(config).restores == 40
    feed(config, telemetry(30), partitions=40)
    made, reader = [], reads.reader
    monkeypatch.setattr(reads, "reader", lambda kafka: made.append(kafka) or reader(kafka))
    summary = drain(config)
    assert (summary.records, summary.restores, len(made)) == (30, 40, 2)


def test_lag_counts_partitions_that_are_not_read_yet(config, monkeypatch):
    """What waits in a partition that cannot be placed is lag; what is known of none is not zero."""
    feed(config, telemetry(90), partitions=3)
    restored = LogReader.restored

    def but_not_the_last(self, partition, low, offset, judge):
        if partition[1] == 2:
            raise BrokerUnavailableError("not now")
        return restored(self, partition, low, offset, judge)

    monkeypatch.setattr(LogReader, "restored", but_not_the_last)
    with Running(config, small_model()) as running:
        assert running.seen.lag is None
        until(lambda: running.seen.records == 60, "the others are read")
        until(lambda: running.seen.lag == 30, "what is left is known")
        monkeypatch.undo()
        until(lambda: running.seen.lag == 0, "all is read")


@pytest.mark.parametrize("records", [20, 200], ids=["fewer", "more"])
def test_a_topic_created_anew_between_two_runs_is_not_skipped(config, records):
    """With fewer or more records than were committed: the run ends and says so, or begins at the first one."""
    feed(config, telemetry(100), partitions=1)
    drain(config)
    before = topic_id(config)
    create_anew(config)
    feed(config, telemetry(records, seed=3, anomalies=0.5), partitions=1)
    relabel(config, before, {0: 100})
    with pytest.raises(OffsetsLostError, match=r"partition 0: the topic was created anew.*on_offsets_lost: continue"):
        drain(config)
    with capture_logs() as logs:
        assert drain(config, on_offsets_lost="continue").records == records
    assert [entry["partition"] for entry in logs if entry["event"].startswith("offsets lost")] == [0]
    first = (config.topics.telemetry[0], 0)
    assert committed(config)[first] == ends(config)[first]
    assert drain(config).records == 0


def relabel(config, identity, offsets):
    """Commits offsets of an older topic once more: some brokers forget them when it is deleted, others do not."""
    consumer = worker_consumer(config)
    name = config.topics.telemetry[0]
    places = [TopicPartition(name, partition, offset, f"topic_id={identity}") for partition, offset in offsets.items()]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


def test_an_offset_set_by_hand_is_believed(config):
    """Who resets a group's offsets knows what he does: without an id beside them they are taken as they are."""
    feed(config, telemetry(100), partitions=1)
    consumer = worker_consumer(config)
    consumer.commit(offsets=[TopicPartition(config.topics.telemetry[0], 0, 60)], asynchronous=False)
    consumer.close()
    assert drain(config).records == 40


def test_alerts_of_two_topics_of_one_name_have_two_sources(config):
    """`ce_id` comes again in a topic created anew, and `ce_source` tells the two apart."""
    worst = list(telemetry(5, anomalies=1.0))
    feed(config, worst, partitions=1)
    drain(config)
    first = topic_id(config)
    create_anew(config)
    feed(config, worst, partitions=1)
    drain(config, on_offsets_lost="continue")
    found = [dict(message.headers()) for message in everything(config, config.topics.alerts)]
    assert len(found) == 10
    assert len({headers["ce_id"] for headers in found}) == 5
    place = f"/stream-detector/{config.topics.telemetry[0]}/0?topic_id="
    assert {headers["ce_source"].decode() for headers in found} == {place + first, place + topic_id(config)}


def test_a_topic_created_anew_under_a_running_worker_is_reported_and_read_from_its_beginning(config):
    """Though it soon holds more records than were taken from the old one."""
    feed(config, telemetry(30), partitions=1)
    with Running(slotted(config, "on", on_offsets_lost="continue"), small_model()) as running:
        until(lambda: running.seen.records == 30, "the first topic is read")
        with capture_logs() as logs:
            create_anew(config)
            time.sleep(3)
            feed(config, telemetry(90, seed=3), partitions=1)
            until(lambda: running.seen.records == 120, "the second topic is read")
    assert running.summary.topics_recreated == 1
    assert "topic was created anew under the same name" in [entry["event"] for entry in logs]
