"""Classifies the faults that the Kafka client reports: what is left to do, who is to blame, and which error says it."""

# ruff: noqa: SLF001 - the names of librdkafka's own error codes begin with an underscore

from enum import StrEnum

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException

from stream_detector.errors import (
    AuthorizationError,
    BrokerUnavailableError,
    FencedError,
    KafkaError,
    OffsetsLostError,
    TopicMissingError,
)

__all__ = ["FENCED", "PURGED", "TRANSLATION", "Blame", "FaultClass", "blame", "classify", "explained", "translate"]


class FaultClass(StrEnum):
    """Says what a fault of the transactional producer leaves to do, in librdkafka's terms."""

    RETRIABLE = "retriable"  # the same call again, with the same arguments
    ABORTABLE = "abortable"  # this transaction is lost, the producer is not
    FATAL = "fatal"  # this producer is lost; another one must take over


PURGED = frozenset({Fault._PURGE_QUEUE, Fault._PURGE_INFLIGHT})
"""Delivery reports of messages that an abort threw away: no failures."""

FENCED = frozenset({Fault._FENCED, Fault.INVALID_PRODUCER_EPOCH, Fault.PRODUCER_FENCED})
"""A newer producer took the transactional id, or the broker ended the transaction for its age."""


class Blame(StrEnum):
    """Says who is to blame for a message that was not taken."""

    MESSAGE = "message"  # never in this form; another form may be
    PASSING = "passing"  # the topic or the broker, as it is now
    OURS = "ours"  # the producer's state; another producer may send it


REFUSALS = {
    **dict.fromkeys(
        (
            Fault.INVALID_RECORD,
            Fault.INVALID_TIMESTAMP,
            Fault.MSG_SIZE_TOO_LARGE,
            Fault.POLICY_VIOLATION,
            Fault.RECORD_LIST_TOO_LARGE,
            Fault.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        ),
        Blame.MESSAGE,
    ),
    **dict.fromkeys(
        (
            Fault._INVALID_DIFFERENT_RECORD,  # a neighbour in its batch is to blame
            Fault._MSG_TIMED_OUT,
            Fault._TRANSPORT,
            Fault.KAFKA_STORAGE_ERROR,
            Fault.LEADER_NOT_AVAILABLE,
            Fault.NOT_ENOUGH_REPLICAS,
            Fault.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            Fault.NOT_LEADER_FOR_PARTITION,
            Fault.REQUEST_TIMED_OUT,
            Fault.THROTTLING_QUOTA_EXCEEDED,
            Fault.TOPIC_AUTHORIZATION_FAILED,
            Fault.UNKNOWN_TOPIC_OR_PART,
            Fault._UNKNOWN_PARTITION,
            Fault._UNKNOWN_TOPIC,
        ),
        Blame.PASSING,
    ),
    **dict.fromkeys(
        (
            Fault._STATE,
            Fault.INVALID_PRODUCER_ID_MAPPING,
            Fault.INVALID_TXN_STATE,
            Fault.OUT_OF_ORDER_SEQUENCE_NUMBER,
            Fault.UNKNOWN_PRODUCER_ID,
            *FENCED,
        ),
        Blame.OURS,
    ),
}
"""What a delivery report says of its message; whatever else it says may pass."""

REMEDIES: dict[type[KafkaError], str] = {
    BrokerUnavailableError: "check kafka.bootstrap_servers and that the broker runs",
    TopicMissingError: "create it with 'stream-detector topics create'",
    AuthorizationError: "grant the missing ACL, or check the credentials in kafka.properties",
    FencedError: "give every worker its own kafka.slot",
    OffsetsLostError: "set worker.on_offsets_lost: continue to go on behind the gap",
    KafkaError: "see the broker's log",
}

REFUSED = {
    Fault.INVALID_RECORD: "give it a key if the topic is compacted; see the broker's log",
    Fault.INVALID_TIMESTAMP: "check the clocks, and the topic's message.timestamp.before.max.ms and .after.max.ms",
    Fault.MSG_SIZE_TOO_LARGE: "raise the topic's max.message.bytes",
    Fault.RECORD_LIST_TOO_LARGE: "raise the topic's segment.bytes",
    Fault.CONCURRENT_TRANSACTIONS: "a transaction does not end; check max.message.bytes and message.timestamp.before.max.ms "
    "of the topics written to, for they bind the broker's own transaction markers, too",
    Fault._BAD_COMPRESSION: "a batch of records is damaged, or inflates to more than 100 MB; see docs/delivery.md for how "
    "to pass it over",
}
"""What to do about what a topic never takes, or gives, as it is."""

TRANSLATION: dict[int, type[KafkaError]] = {
    **dict.fromkeys(
        (
            Fault._TRANSPORT,
            Fault._ALL_BROKERS_DOWN,
            Fault._TIMED_OUT,
            Fault._TIMED_OUT_QUEUE,
            Fault._MSG_TIMED_OUT,
            Fault._RESOLVE,
            Fault._WAIT_COORD,
            Fault.BROKER_NOT_AVAILABLE,
            Fault.COORDINATOR_NOT_AVAILABLE,
            Fault.FENCED_LEADER_EPOCH,
            Fault.LEADER_NOT_AVAILABLE,
            Fault.NETWORK_EXCEPTION,
            Fault.NOT_LEADER_FOR_PARTITION,
            Fault.REQUEST_TIMED_OUT,
            Fault.UNKNOWN_LEADER_EPOCH,
        ),
        BrokerUnavailableError,
    ),
    **dict.fromkeys((Fault.UNKNOWN_TOPIC_OR_PART, Fault._UNKNOWN_TOPIC, Fault._UNKNOWN_PARTITION), TopicMissingError),
    **dict.fromkeys(
        (
            Fault._AUTHENTICATION,
            Fault._SSL,
            Fault.SASL_AUTHENTICATION_FAILED,
            Fault.CLUSTER_AUTHORIZATION_FAILED,
            Fault.DELEGATION_TOKEN_AUTHORIZATION_FAILED,
            Fault.GROUP_AUTHORIZATION_FAILED,
            Fault.TOPIC_AUTHORIZATION_FAILED,
            Fault.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ),
        AuthorizationError,
    ),
    **dict.fromkeys(
        (
            Fault._FENCED,
            Fault.FENCED_INSTANCE_ID,
            Fault.INVALID_PRODUCER_EPOCH,
            Fault.PRODUCER_FENCED,
            Fault.UNRELEASED_INSTANCE_ID,
        ),
        FencedError,
    ),
    **dict.fromkeys((Fault._AUTO_OFFSET_RESET, Fault.OFFSET_OUT_OF_RANGE), OffsetsLostError),
}

DENIALS = {
    Fault.TOPIC_AUTHORIZATION_FAILED: "READ or WRITE on the topic",
    Fault.GROUP_AUTHORIZATION_FAILED: "READ on the consumer group",
    Fault.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "WRITE and DESCRIBE on the transactional id",
    Fault.CLUSTER_AUTHORIZATION_FAILED: "IDEMPOTENT_WRITE on the cluster",
}


def translate(error: Fault | KafkaException, subject: str) -> KafkaError:
    """Gives this project's error for one of librdkafka's; `subject` names the address, topic or group."""
    fault: Fault = error.args[0] if isinstance(error, KafkaException) else error
    kind = TRANSLATION.get(fault.code(), KafkaError)
    return kind(f"{subject}: {fault.str()} ({fault.name()}); {REFUSED.get(fault.code(), REMEDIES[kind])}")


def classify(fault: Fault) -> FaultClass:
    """Classifies a fault; what librdkafka calls neither fatal, abortable nor retriable is fatal."""
    if fault.fatal():
        return FaultClass.FATAL
    if fault.txn_requires_abort():
        return FaultClass.ABORTABLE
    return FaultClass.RETRIABLE if fault.retriable() else FaultClass.FATAL


def blame(fault: Fault) -> Blame:
    """Says who is to blame for a message that was not taken; an unknown fault may pass, and retries have their end."""
    return REFUSALS.get(fault.code(), Blame.PASSING)


def explained(fault: Fault, subject: str) -> KafkaError:
    """Gives this project's error for a fault, `subject` being what was done; it names a permission that is missing."""
    missing = DENIALS.get(fault.code())
    if missing is None:
        return translate(fault, subject)
    return AuthorizationError(f"{subject}: {missing} is missing ({fault.str()}); grant that ACL to this user")
