"""Reads a topic as it grows, without a group: for programs that show or forward what comes."""

from collections.abc import Callable, Iterator
from typing import cast

from confluent_kafka import OFFSET_BEGINNING
from confluent_kafka import KafkaError as Fault
from confluent_kafka import TopicPartition as TopicPartitionOffset

from stream_detector.config import KafkaConfig
from stream_detector.errors import BrokerUnavailableError
from stream_detector.kafka.clients import reader, require_broker
from stream_detector.kafka.faults import translate
from stream_detector.kafka.topics import watermarks
from stream_detector.records import Message

__all__ = ["follow"]

ANSWER_S = 5.0  # for a person who waits for the first sign of life
WAIT_S = 0.2  # how soon `stop` and Ctrl-C are heard


def follow(
    kafka: KafkaConfig,
    topic: str,
    *,
    from_beginning: bool = False,
    endless: bool = True,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Message]:
    """Yields the committed records of all partitions of `topic`, in order within each.

    They begin at the topic's beginning, or with what is written after the first step; they end
    where the topic ends (`endless` False), or when `stop` says so. A broker that is away for a
    while is waited for. Raises `TopicMissingError` or another `KafkaError`.
    """
    require_broker(kafka, ANSWER_S)
    partitions = watermarks(kafka, [topic])
    starts = [
        TopicPartitionOffset(name, partition, OFFSET_BEGINNING if from_beginning else marks.high)
        for (name, partition), marks in partitions.items()
    ]
    unfinished = {partition for _, partition in partitions}
    consumer = reader(kafka)
    try:
        consumer.assign(starts)
        while unfinished and not stop():
            message = consumer.poll(WAIT_S)
            if message is None:
                continue
            if (fault := message.error()) is None:
                yield cast("Message", message)
            elif fault.code() != Fault._PARTITION_EOF:  # noqa: SLF001 - so named by librdkafka
                _bear(fault, topic)
            elif not endless:
                unfinished.discard(message.partition())
    finally:
        consumer.close()


def _bear(fault: Fault, topic: str) -> None:
    """Raises a fault that will not pass by itself."""
    error = translate(fault, f"topic {topic!r}")
    if fault.fatal() or not isinstance(error, BrokerUnavailableError):
        raise error
