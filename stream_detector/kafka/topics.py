"""Creates topics, requires them, and finds the offsets between which they hold records."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from confluent_kafka import IsolationLevel, KafkaException
from confluent_kafka import KafkaError as Fault
from confluent_kafka import TopicPartition as TopicPartitionOffset
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it re-exports these without saying so
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from stream_detector.config import Config, KafkaConfig
from stream_detector.errors import TopicMissingError
from stream_detector.kafka.clients import MAX_MESSAGE_BYTES, admin, require_broker
from stream_detector.kafka.faults import translate
from stream_detector.records import TopicPartition

__all__ = [
    "TopicResult",
    "Watermarks",
    "create",
    "end_offsets",
    "offsets_at",
    "reach",
    "require",
    "watermarks",
]

if TYPE_CHECKING:
    from concurrent.futures import Future

TIMEOUT = 15.0  # seconds for one administrative request
DEAD_LETTER_MAX_BYTES = 16 * 2**20  # the largest usual record, and the headers that say why

LEADERLESS = {  # what a broker answers about a partition whose leader it is just learning
    Fault.FENCED_LEADER_EPOCH,
    Fault.LEADER_NOT_AVAILABLE,
    Fault.NOT_LEADER_FOR_PARTITION,
    Fault.UNKNOWN_LEADER_EPOCH,
    Fault.UNKNOWN_TOPIC_OR_PART,
}


class TopicResult(NamedTuple):
    """Says what `create` found or did; `warning` is empty unless an existing topic is set up unfit."""

    name: str
    state: Literal["created", "existed"]
    warning: str = ""


class Watermarks(NamedTuple):
    """Holds the first offset still retained, and the one after the last committed record."""

    low: int
    high: int


def create(config: Config) -> list[TopicResult]:
    """Creates the configured topics that do not exist; leaves those that do as they are.

    Raises `AuthorizationError`, `BrokerUnavailableError` or another `KafkaError` naming the topic.
    """
    require_broker(config.kafka)  # which names the address when nothing answers there
    client = admin(config.kafka)
    shapes = _shapes(config)
    new = [NewTopic(name, count, config.topics.replication, config=settings) for name, count, settings in shapes]
    futures = client.create_topics(new, operation_timeout=TIMEOUT, request_timeout=TIMEOUT)
    results = [_created(shape.name, futures[shape.name]) for shape in shapes]
    existed = {result.name for result in results if result.state == "existed"}
    _await_leaders(config.kafka, {shape.name for shape in shapes} - existed)
    unfit = _unfit(client, [shape for shape in shapes if shape.name in existed])
    return [result._replace(warning=unfit.get(result.name, "")) for result in results]


def require(kafka: KafkaConfig, names: Iterable[str]) -> None:
    """Raises `TopicMissingError` naming the topics that do not exist."""
    wanted = list(dict.fromkeys(names))
    existing = _existing(admin(kafka), kafka)
    missing = [name for name in wanted if name not in existing]
    if missing:
        raise _not_found(kafka, missing)


def watermarks(kafka: KafkaConfig, topics: Iterable[str]) -> dict[TopicPartition, Watermarks]:
    """Finds the watermarks of every partition of `topics`; open transactions lie beyond them.

    Raises `TopicMissingError` for a topic that does not exist.
    """
    names = list(dict.fromkeys(topics))
    client = admin(kafka)
    existing = _existing(client, kafka)
    deadline = time.monotonic() + TIMEOUT
    while missing := [name for name in names if name not in existing]:
        require(kafka, missing)  # brokers differ for a moment about what was just created
        if time.monotonic() > deadline:
            raise _not_found(kafka, missing)
        time.sleep(0.05)
        existing = _existing(client, kafka)
    return reach(client, kafka, [(name, partition) for name in names for partition in existing[name]])


def reach(
    client: AdminClient, kafka: KafkaConfig, partitions: Iterable[TopicPartition], timeout: float = TIMEOUT
) -> dict[TopicPartition, Watermarks]:
    """Finds the watermarks of these partitions, in two requests for all; each may take `timeout` seconds."""
    asked = list(partitions)
    low = _offsets(client, kafka, asked, OffsetSpec.earliest(), timeout)  # type: ignore[no-untyped-call]
    high = _offsets(client, kafka, asked, OffsetSpec.latest(), timeout)  # type: ignore[no-untyped-call]
    return {partition: Watermarks(low[partition], high[partition]) for partition in asked}


def end_offsets(kafka: KafkaConfig, topics: Iterable[str]) -> dict[TopicPartition, int]:
    """Finds the offset after the last committed record of every partition of `topics`."""
    return {partition: marks.high for partition, marks in watermarks(kafka, topics).items()}


def offsets_at(kafka: KafkaConfig, topics: Iterable[str], time_ms: int) -> dict[TopicPartition, int]:
    """Finds the first offset whose timestamp is `time_ms` (epoch) or later, in every partition of `topics`.

    Where there is none it is the partition's end. Raises `TopicMissingError` for a topic that does not exist.
    """
    marks = watermarks(kafka, topics)
    found = _offsets(admin(kafka), kafka, list(marks), OffsetSpec.for_timestamp(time_ms))
    return {partition: found[partition] if found[partition] >= 0 else marks[partition].high for partition in marks}


def _not_found(kafka: KafkaConfig, missing: list[str]) -> TopicMissingError:
    plural = "topics" if len(missing) > 1 else "topic"
    return TopicMissingError(
        f"{plural} {', '.join(map(repr, missing))} not found on {kafka.bootstrap_servers}; "
        "create with 'stream-detector topics create', or correct the names under 'topics:'"
    )


class _Shape(NamedTuple):
    name: str
    partitions: int
    settings: dict[str, str]


def _shapes(config: Config) -> list[_Shape]:
    topics = config.topics
    delete, compact = {"cleanup.policy": "delete"}, {"cleanup.policy": "compact"}
    return [
        *(_Shape(name, topics.partitions, delete) for name in topics.telemetry),
        _Shape(topics.alerts, topics.partitions, delete),
        _Shape(topics.dead_letters, topics.partitions, delete | {"max.message.bytes": str(DEAD_LETTER_MAX_BYTES)}),
        _Shape(topics.models, 1, compact | {"max.message.bytes": str(MAX_MESSAGE_BYTES)}),
        _Shape(topics.feedback, 1, compact),
        _Shape(topics.control, 1, delete),
        _Shape(topics.shadow, 1, delete),
    ]


def _created(name: str, future: "Future[Any]") -> TopicResult:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() == Fault.TOPIC_ALREADY_EXISTS:
            return TopicResult(name, "existed")
        raise translate(error, f"topic {name!r} cannot be created") from None
    return TopicResult(name, "created")


def _await_leaders(kafka: KafkaConfig, names: set[str]) -> None:
    """Waits until topics just created are known and have leaders, which takes a moment."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            watermarks(kafka, names)
        except TopicMissingError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _unfit(client: AdminClient, topics: list[_Shape]) -> dict[str, str]:
    """Words a warning for each existing topic whose clean-up or size limit would lose what it is for."""
    resources = {ConfigResource(ResourceType.TOPIC, topic.name): topic for topic in topics}
    if not resources:
        return {}
    warnings: dict[str, str] = {}
    for resource, future in client.describe_configs(list(resources), request_timeout=TIMEOUT).items():
        name, _, settings = resources[resource]
        try:
            found = future.result()
        except KafkaException:  # reading settings needs a right of its own; without it there is no check
            continue
        wrong = [
            f"{key}={found[key].value} (wanted {want})" for key, want in settings.items() if _worse(found, key, want)
        ]
        if wrong:
            warnings[name] = f"topic {name!r} has {', '.join(wrong)}; change it with kafka-configs"
    return warnings


def _worse(found: dict[str, Any], key: str, want: str) -> bool:
    value = found[key].value
    if key == "cleanup.policy":
        return want not in value.split(",") or ("compact" in value) != (want == "compact")
    return int(value) < int(want)


def _existing(client: AdminClient, kafka: KafkaConfig) -> dict[str, list[int]]:
    try:
        found = client.list_topics(timeout=TIMEOUT).topics
    except KafkaException as error:
        raise translate(error, f"no answer from {kafka.bootstrap_servers}") from None
    return {name: sorted(topic.partitions) for name, topic in found.items() if topic.error is None}


def _offsets(
    client: AdminClient,
    kafka: KafkaConfig,
    partitions: list[TopicPartition],
    which: OffsetSpec,
    timeout: float = TIMEOUT,
) -> dict[TopicPartition, int]:
    """Finds offsets of all partitions; waits for leaders, which a topic just created does not have at once."""
    if not partitions:
        return {}
    request = {TopicPartitionOffset(topic, partition): which for topic, partition in partitions}
    deadline = time.monotonic() + timeout
    while True:
        futures = client.list_offsets(request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout)
        try:
            return {(tp.topic, tp.partition): future.result().offset for tp, future in futures.items()}
        except KafkaException as error:
            if error.args[0].code() not in LEADERLESS or time.monotonic() > deadline:
                raise translate(error, f"offsets on {kafka.bootstrap_servers}") from None
        time.sleep(0.05)
