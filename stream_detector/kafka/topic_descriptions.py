"""Asks the broker about topics: whether they are there, what this user may do, and which topics they are.

A topic is given an id when it is created. One that is deleted and created anew under the same
name looks like the old one to everybody who does not ask for it.
"""

from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it re-exports these without saying so
    AclOperation,
    AdminClient,
    TopicDescription,
)

from stream_detector.errors import BrokerUnavailableError
from stream_detector.kafka.faults import translate
from stream_detector.records import TopicPartition

__all__ = ["Described", "TopicIds", "described", "fault", "ids", "is_silent", "partitions"]

Described = TopicDescription | KafkaException
"""A topic's description, or why there is none."""

TopicIds = Mapping[str, str]
"""Ids of topics, by name; those that the broker does not tell are left out."""

NOBODY = "AAAAAAAAAAAAAAAAAAAAAA"  # what a broker that knows no topic ids gives


def described(client: AdminClient, topics: Iterable[str], timeout: float) -> dict[str, Described]:
    """Asks the broker to describe each topic; waits `timeout` seconds at most."""
    names = list(dict.fromkeys(topics))
    try:
        futures = client.describe_topics(
            TopicCollection(names), include_authorized_operations=True, request_timeout=timeout
        )
    except KafkaException as error:
        return dict.fromkeys(names, error)
    found: dict[str, Described] = {}
    for topic, future in futures.items():
        try:
            found[topic] = future.result()
        except KafkaException as error:
            found[topic] = error
    return found


def ids(found: Mapping[str, Described]) -> dict[str, str]:
    """Gives the ids of the topics that were described."""
    told = {topic: str(each.topic_id) for topic, each in found.items() if not isinstance(each, KafkaException)}
    return {topic: identity for topic, identity in told.items() if identity != NOBODY}


def partitions(found: Mapping[str, Described]) -> list[TopicPartition]:
    """Lists the partitions of the topics that were described."""
    return [
        (topic, each.id)
        for topic, told in found.items()
        if not isinstance(told, KafkaException)
        for each in told.partitions
    ]


def is_silent(found: Mapping[str, Described]) -> bool:
    """Tells whether nobody answered at all: the client's own faults have negative codes."""
    faults = [each for each in found.values() if isinstance(each, KafkaException)]
    return any(each.args[0].code() < 0 and isinstance(translate(each, ""), BrokerUnavailableError) for each in faults)


def fault(topic: str, found: Described, wanted: AclOperation) -> str | None:
    """Says what is wrong with a topic, None if nothing is; a broker that names no rights is taken to grant them."""
    if isinstance(found, KafkaException):
        return str(translate(found, f"topic {topic!r}"))
    operations = found.authorized_operations
    if operations and not {wanted, AclOperation.ALL} & set(operations):
        return f"topic {topic!r}: {wanted.name} on the topic is missing; grant that ACL to this user"
    leaderless = [str(each.id) for each in found.partitions if each.leader is None or each.leader.id < 0]
    return f"topic {topic!r}: no leader for partition {', '.join(leaderless[:5])}" if leaderless else None
