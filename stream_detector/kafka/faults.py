"""What a Kafka fault asks for: one classification, used everywhere."""

# ruff: noqa: SLF001 - the names of librdkafka's own error codes begin with an underscore

from enum import StrEnum

from confluent_kafka import KafkaError as Fault

from stream_detector.errors import AuthorizationError, KafkaError
from stream_detector.kafka.clients import translate

__all__ = ["FENCED", "PURGED", "Blame", "Verdict", "blame", "classify", "explained"]


class Verdict(StrEnum):
    """What to do about a fault of the transactional producer."""

    RETRY = "retry"  # the same call again, with the same arguments
    ABORT = "abort"  # this transaction is lost, the producer is not
    FATAL = "fatal"  # this producer is lost; another one must take over


PURGED = frozenset({Fault._PURGE_QUEUE, Fault._PURGE_INFLIGHT})
"""Delivery reports of messages that an abort threw away: no failures."""

FENCED = frozenset({Fault._FENCED, Fault.INVALID_PRODUCER_EPOCH, Fault.PRODUCER_FENCED})
"""A newer producer took the transactional id, or the broker ended the transaction for its age."""


class Blame(StrEnum):
    """Why a message was not taken."""

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

DENIALS = {
    Fault.TOPIC_AUTHORIZATION_FAILED: "READ or WRITE on the topic",
    Fault.GROUP_AUTHORIZATION_FAILED: "READ on the consumer group",
    Fault.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "WRITE and DESCRIBE on the transactional id",
    Fault.CLUSTER_AUTHORIZATION_FAILED: "IDEMPOTENT_WRITE on the cluster",
}


def classify(fault: Fault) -> Verdict:
    """The verdict on a fault; what librdkafka calls neither fatal, abortable nor retriable is fatal."""
    if fault.fatal():
        return Verdict.FATAL
    if fault.txn_requires_abort():
        return Verdict.ABORT
    return Verdict.RETRY if fault.retriable() else Verdict.FATAL


def blame(fault: Fault) -> Blame:
    """Who is to blame for a message that was not taken; what is unheard of may pass, and patience has its end."""
    return REFUSALS.get(fault.code(), Blame.PASSING)


def explained(fault: Fault, subject: str) -> KafkaError:
    """This project's error for a fault, `subject` being what was done; names a permission that is missing."""
    missing = DENIALS.get(fault.code())
    if missing is None:
        return translate(fault, subject)
    return AuthorizationError(f"{subject}: {missing} is missing ({fault.str()}); grant that ACL to this user")
