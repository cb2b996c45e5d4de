"""Makes topics and a group of one's own on any broker, and deletes them afterwards: for demos and trials."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as TopicPartitionOffset

from stream_detector.config import Config
from stream_detector.kafka import topics
from stream_detector.kafka.clients import admin, common
from stream_detector.kafka.faults import translate

__all__ = ["begin_at_end", "sandbox"]

TIMEOUT = 15.0  # seconds for a request


@contextmanager
def sandbox(config: Config) -> Iterator[Config]:
    """Gives the configuration topics and a group that nobody else uses, and deletes them on leaving.

    Raises a `KafkaError` when the topics cannot be created.
    """
    mark = uuid.uuid4().hex[:8]
    names = config.topics.model_dump(include={"alerts", "dead_letters", "models", "feedback", "control", "shadow"})
    renamed = {key: f"{name}-{mark}" for key, name in names.items()}
    telemetry = tuple(f"{name}-{mark}" for name in config.topics.telemetry)
    own = config.model_copy(
        update={
            "topics": config.topics.model_copy(update=renamed | {"telemetry": telemetry}),
            "kafka": config.kafka.model_copy(update={"group_id": f"{config.kafka.group_id}-{mark}"}),
        }
    )
    try:
        topics.create(own)
        yield own
    finally:
        _remove(own, [*telemetry, *renamed.values()])


def begin_at_end(config: Config) -> None:
    """Commits the telemetry topics' ends for the group: its first worker begins with what comes next.

    The group must have no member. Raises a `KafkaError`.
    """
    ends = topics.end_offsets(config.kafka, config.topics.telemetry)
    offsets = [TopicPartitionOffset(topic, partition, end) for (topic, partition), end in ends.items()]
    consumer = Consumer(common(config.kafka) | {"group.id": config.kafka.group_id, "enable.auto.commit": False})
    try:
        consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        raise translate(error, f"group {config.kafka.group_id!r}") from None
    finally:
        consumer.close()


def _remove(config: Config, names: list[str]) -> None:
    """Deletes what can be deleted; the rest was never made, or its broker is gone."""
    client = admin(config.kafka)
    futures = list(client.delete_topics(names, operation_timeout=TIMEOUT, request_timeout=TIMEOUT).values())
    futures += client.delete_consumer_groups([config.kafka.group_id], request_timeout=TIMEOUT).values()
    for future in futures:
        future.exception(timeout=2 * TIMEOUT)
