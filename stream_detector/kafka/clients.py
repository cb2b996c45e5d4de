"""Makes the Kafka clients: every property that is set on librdkafka stands here, with its reason.

One client, one purpose: `admin`, `plain_producer` (outside transactions), `reader` (bounded reads
that commit nothing), `registrar` (who moves the model pointer), and the worker's pair,
`worker_consumer` and `transactional_producer`.
"""

import logging
import os
import socket
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka import KafkaError as Fault
from confluent_kafka.admin import AdminClient

from stream_detector.config import Config, KafkaConfig
from stream_detector.errors import AuthorizationError, BrokerUnavailableError, ConfigError, KafkaError
from stream_detector.kafka.faults import TRANSLATION, translate

__all__ = [
    "BATCH_BYTES",
    "MAX_MESSAGE_BYTES",
    "Batching",
    "admin",
    "common",
    "offsets_reader",
    "plain_producer",
    "reachable",
    "reader",
    "registrar",
    "require_broker",
    "send",
    "slot",
    "transactional_id",
    "transactional_producer",
    "worker_consumer",
]

Properties = dict[str, Any]
StatsCallback = Callable[[str], None]
ErrorCallback = Callable[[Fault], None]
Client = TypeVar("Client", AdminClient, Consumer, Producer)

MAX_MESSAGE_BYTES = 64 * 2**20
"""The largest message any client of ours sends or a topic of ours takes: a model artifact."""

BATCH_BYTES = 1_000_000
"""The largest batch of messages, unless one alone is larger; topics take 1,048,588 bytes by default."""

ANY = -1  # the client chooses the partition, by the key
STATISTICS_INTERVAL_MS = 20
"""A slow commit waits for the next ones; rendering them takes 40 µs."""
LIBRDKAFKA = logging.getLogger("stream_detector.kafka.librdkafka")
LIBRDKAFKA.addHandler(logging.NullHandler())  # nothing on a bare stderr; a configured root logger still hears it


class Batching(NamedTuple):
    """Limits how many bytes and messages a producer puts into one batch."""

    bytes: int = BATCH_BYTES
    messages: int = 10_000


def common(kafka: KafkaConfig) -> Properties:
    """Gives the properties of every client; `kafka.properties` wins over all but the address and the password."""
    properties: Properties = {
        "client.id": "stream-detector",
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 2_000,  # a restarted broker is found within seconds
        "log.connection.close": False,  # brokers close idle connections; that is no news
        "logger": LIBRDKAFKA,
        **kafka.properties,
        "bootstrap.servers": kafka.bootstrap_servers,
    }
    if kafka.sasl_password is not None:
        properties["sasl.password"] = kafka.sasl_password.get_secret_value()
    return properties


def slot(kafka: KafkaConfig) -> str:
    """Names this worker among those that run at once."""
    return kafka.slot or f"{socket.gethostname()}-{os.getpid()}"


def transactional_id(kafka: KafkaConfig) -> str:
    """Names this worker's transactions; the group is in the name, so that two groups never fence each other."""
    return f"stream-detector.{kafka.group_id}.{slot(kafka)}"


def admin(kafka: KafkaConfig) -> AdminClient:
    """Makes a client for topics, offsets and groups; keep it while its futures are awaited, they end with it."""
    return _made(AdminClient, common(kafka))


def plain_producer(kafka: KafkaConfig) -> Producer:
    """Makes a producer outside transactions: idempotent, acknowledged by all in-sync replicas, order kept."""
    return _made(
        Producer,
        common(kafka)
        | {
            "enable.idempotence": True,
            "acks": "all",
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "queue.buffering.max.kbytes": 131_072,
        },
    )


def reader(kafka: KafkaConfig) -> Consumer:
    """Makes a consumer for `assign`, never `subscribe`: it commits nothing, joins no group, reports each partition's end."""
    return _made(
        Consumer,
        common(kafka)
        | {
            "group.id": f"stream-detector-reader-{uuid.uuid4().hex}",  # demanded by the client, never joined
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",  # retention may overtake the start: go on at what is left
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,  # a fetch waiting at a partition's end delays the next assignment by this
            "queued.max.messages.kbytes": 65_536,
            "fetch.queue.backoff.ms": 20,
        },
    )


def offsets_reader(kafka: KafkaConfig) -> Consumer:
    """Makes a consumer that asks for the group's committed offsets; it neither joins nor waits for open transactions."""
    own = {"group.id": kafka.group_id, "enable.auto.commit": False, "isolation.level": "read_uncommitted"}
    return _made(Consumer, common(kafka) | own)


def worker_consumer(config: Config, *, on_error: ErrorCallback | None = None) -> Consumer:
    """Makes the worker's consumer: it commits nothing by itself, and reads committed records only.

    A partition without a valid offset yields an `_AUTO_OFFSET_RESET` error message rather than a
    silent jump; the worker answers it by `worker.start_from` and `worker.on_offsets_lost`.
    """
    worker = config.worker
    properties = common(config.kafka) | {
        "group.id": config.kafka.group_id,
        "group.protocol": worker.group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",  # also makes a new owner wait for its predecessor's transaction
        "auto.offset.reset": "error",
        "enable.partition.eof": True,  # shows where a partition ends that ends in transaction markers
        "max.poll.interval.ms": max(worker.max_poll_interval_ms, worker.session_timeout_ms),  # as librdkafka demands
        "topic.metadata.refresh.interval.ms": 30_000,  # how soon added partitions are found
        "check.crcs": True,
        "queued.max.messages.kbytes": 65_536,
        "fetch.queue.backoff.ms": 20,  # the default of 1 s starves a fast worker
    }
    if worker.group_protocol == "classic":  # with KIP-848 these are the broker's to decide
        properties |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": worker.session_timeout_ms,
            "heartbeat.interval.ms": min(3_000, worker.session_timeout_ms // 3),
        }
    return _made(Consumer, properties | _callbacks(on_error, None))


def transactional_producer(
    config: Config,
    *,
    on_error: ErrorCallback | None = None,
    on_stats: StatsCallback | None = None,
    batching: Batching = Batching(),  # noqa: B008 - a value
) -> Producer:
    """Makes the worker's producer, before `init_transactions()`; a later one with the same slot fences it.

    `on_stats` gets librdkafka's statistics as JSON text fifty times a second, from `poll`.
    """
    timeout = config.worker.transaction_timeout_ms
    return _made(
        Producer,
        common(config.kafka)
        | {
            "transactional.id": transactional_id(config.kafka),
            "transaction.timeout.ms": timeout,
            "message.timeout.ms": timeout * 4 // 5,  # a lost message shows before the broker aborts the transaction
            "socket.timeout.ms": max(timeout // 2, 500),  # so does a lost request
            "message.max.bytes": MAX_MESSAGE_BYTES,  # a dead letter is its original and some headers
            "batch.size": batching.bytes,
            "batch.num.messages": batching.messages,
            "linger.ms": 1,  # a batch's messages come at once, and its commit waits for them
            "queue.buffering.max.kbytes": 131_072,
        }
        | _callbacks(on_error, on_stats),
    )


def registrar(kafka: KafkaConfig, topic: str) -> Producer:
    """Makes the producer that moves the model pointer on `topic`, before `init_transactions()`.

    All have the same transactional id, whatever their slot: the latest fences the others.
    """
    return _made(Producer, common(kafka) | {"transactional.id": f"stream-detector.models.{topic}"})


def _made(kind: Callable[[Properties], Client], properties: Properties) -> Client:
    """Makes a client. Raises `ConfigError` for properties that do not go together, without their values."""
    try:
        return kind(properties)
    except (KafkaException, TypeError, ValueError) as error:
        said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        for value in properties.values():
            said = said.replace(value, "(its value)") if isinstance(value, str) and len(value) > 3 else said
        raise ConfigError(
            f"kafka.properties: the Kafka client cannot be made of them: {said.strip()}; "
            "correct them, 'stream-detector validate' names wrong ones"
        ) from None


def _callbacks(on_error: ErrorCallback | None, on_stats: StatsCallback | None) -> Properties:
    properties: Properties = {"error_cb": on_error} if on_error else {}
    if on_stats:
        properties |= {"stats_cb": on_stats, "statistics.interval.ms": STATISTICS_INTERVAL_MS}
    return properties


def reachable(kafka: KafkaConfig, timeout: float = 5.0) -> bool:
    """Tells whether a broker answers within `timeout` seconds."""
    try:
        require_broker(kafka, timeout)
    except KafkaError:
        return False
    return True


def require_broker(kafka: KafkaConfig, timeout: float = 10.0) -> None:
    """Returns once a broker answers.

    Raises `BrokerUnavailableError` after `timeout` seconds, `AuthorizationError` when it answers but
    refuses the credentials.
    """
    faults: list[Fault] = []
    client = _made(AdminClient, common(kafka) | {"log_level": 0, "error_cb": faults.append})
    try:
        client.list_topics(timeout=timeout)
    except KafkaException as error:
        client.poll(0)  # hands over what the connection itself reported
        refused = [fault for fault in faults if TRANSLATION.get(fault.code()) is AuthorizationError]
        raise translate(refused[0] if refused else error, f"no answer from {kafka.bootstrap_servers}") from None


def send(
    kafka: KafkaConfig, topic: str, key: bytes, value: bytes, *, partition: int = ANY, timeout: float = 30.0
) -> None:
    """Sends one record, and returns once all in-sync replicas have it; waits `timeout` seconds.

    Raises a `KafkaError` when they do not have it by then. Without a partition the key decides.
    """
    faults: list[Fault | None] = []
    producer = plain_producer(kafka)
    subject = f"topic {topic!r}, record {key.decode(errors='replace')!r:.300}"
    try:
        producer.produce(topic, value, key, partition=partition, on_delivery=lambda fault, _: faults.append(fault))
    except KafkaException as error:  # larger than any message of ours may be
        raise translate(error, subject) from None
    producer.flush(timeout)
    if not faults:
        raise BrokerUnavailableError(f"{subject}: not acknowledged within {timeout:.0f} s; check that the broker runs")
    if faults[0] is not None:
        raise translate(faults[0], subject)
