"""What a member of the group does when partitions come to it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from confluent_kafka import TopicPartition

from stream_detector.config import Config
from stream_detector.worker.partitions.assignment import Assignment
from stream_detector.worker.source import Source

CONFIG = Config.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:9"}})


class Recorder:
    """A consumer of which only what it is assigned is of interest."""

    def __init__(self):
        self.assigned, self.paused = [], []

    def incremental_assign(self, partitions):
        self.assigned += partitions

    def pause(self, partitions):
        self.paused += partitions


def test_partitions_are_assigned_at_an_offset_and_nothing_is_read():
    """Never at a place the broker has to be asked for: its answer may come after the seek, and skip records."""
    source = Source(CONFIG, Assignment(judge=None))
    consumer, partitions = Recorder(), [TopicPartition("telemetry", 0), TopicPartition("telemetry", 1)]
    source._on_assign(consumer, partitions)
    assert source._crash is None
    assert [(each.partition, each.offset >= 0) for each in consumer.assigned] == [(0, True), (1, True)]
    assert consumer.paused == partitions
    assert [owned.name for owned in source.assignment.restoring] == [("telemetry", 0), ("telemetry", 1)]


def test_one_thread_at_a_time_has_the_consumer():
    """A second thread that comes while the first one receives is told so; afterwards it may have the consumer."""
    source = Source(CONFIG, Assignment(judge=None))
    inside, leave = Event(), Event()

    class Slow(Recorder):
        def consume(self, count, wait):
            inside.set()
            assert leave.wait(60)
            return []

        def consumer_group_metadata(self):
            return b"a member"

    source._consumer = Slow()
    with ThreadPoolExecutor(1) as other:
        receiving = other.submit(source.receive, 1, 0.0)
        assert inside.wait(60)
        for call in (source.membership, source.restore, lambda: source.rewind([])):
            with pytest.raises(RuntimeError, match="another thread"):
                call()
        leave.set()
        receiving.result()
    assert source.membership() == b"a member"
