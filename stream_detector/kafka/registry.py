"""Models on Kafka: a compacted topic of artifacts, and a pointer to the one that serves.

An artifact is a record with key `version/<SHA-256 of its bytes>`, the pointer one with key
`current`. The artifact is acknowledged before the pointer is written, so a pointer never names
what is not there; a crash in between leaves an artifact that nothing points to, and no harm.
Of two who publish at once, the later pointer holds.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, Message, Producer, TopicPartition

from stream_detector.config import Config
from stream_detector.errors import BrokerUnavailableError, ModelFormatError, ModelNotFoundError
from stream_detector.kafka import topics, window
from stream_detector.kafka.clients import MAX_MESSAGE_BYTES, plain_producer, reader, translate

__all__ = [
    "MAX_ARTIFACT_BYTES",
    "Pointer",
    "PointerWatch",
    "VersionInfo",
    "current",
    "fetch",
    "promote",
    "publish",
    "resolve",
    "versions",
]

MAX_ARTIFACT_BYTES = MAX_MESSAGE_BYTES - 65_536  # room for the record's frame
MAX_TEXT = 500  # characters of `who` and `why`
PARTITION = 0
POINTER = b"current"
PREFIX = b"version/"
STEP = 4  # offsets read at once, backwards; what is wanted is nearly always among the last two
TIMEOUT = 60.0  # seconds for a record to be acknowledged
VERSION = re.compile(r"[0-9a-f]{64}")
VERSION_PREFIX = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which version serves, which served before, and who moved the pointer, when (RFC 3339) and why."""

    version: str
    previous: str | None
    who: str
    when: str
    why: str

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Read from the topic; raises `ModelFormatError` when it is no pointer of ours."""
        try:
            pointer = cls(**json.loads(message.value() or b""))
            sound = VERSION.fullmatch(pointer.version) and VERSION.fullmatch(pointer.previous or pointer.version)
        except (TypeError, ValueError):
            sound = None
        if not sound:
            raise ModelFormatError(
                f"topic {message.topic()!r}, offset {message.offset()}: not a model pointer; "
                "write a sound one with 'stream-detector models promote VERSION'"
            )
        return pointer


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A published artifact: its size in bytes, when it was written (epoch ms), and whether it serves."""

    version: str
    size: int
    timestamp_ms: int
    current: bool


class PointerWatch:
    """Follows the pointer as it moves, without blocking; for one thread, closed after use.

    Raises `TopicMissingError` without a models topic.
    """

    def __init__(self, config: Config) -> None:
        topic = config.topics.models
        end = _end(config)  # first, so that what is written meanwhile is seen twice rather than never
        self._news = current(config)
        self._consumer = reader(config.kafka)
        self._consumer.assign([TopicPartition(topic, PARTITION, end)])

    def poll(self) -> Pointer | None:
        """The newest pointer since the last call; None when it has not moved.

        The first call gives the pointer as it stands. Raises `ModelFormatError` when it is unsound.
        """
        for message in self._consumer.consume(STEP, 0):
            if message.error() is None and message.key() == POINTER and message.value() is not None:
                self._news = Pointer.from_message(message)
        news, self._news = self._news, None
        return news

    def close(self) -> None:
        """Lets go of the connection."""
        self._consumer.close()


def publish(config: Config, artifact: bytes, who: str, why: str) -> Pointer:
    """Writes an artifact and points to it; returns the new pointer.

    Raises `ModelFormatError` when the artifact is empty or exceeds `MAX_ARTIFACT_BYTES`, and a
    `KafkaError` when a record was not acknowledged; then the pointer has not moved.
    """
    if not 0 < len(artifact) <= MAX_ARTIFACT_BYTES:
        raise ModelFormatError(
            f"the artifact has {len(artifact):,} bytes; 1 to {MAX_ARTIFACT_BYTES:,} can be published"
        )
    version = hashlib.sha256(artifact).hexdigest()
    served = current(config)
    producer = plain_producer(config.kafka)
    _send(producer, config.topics.models, _key(version), artifact)
    return _point(producer, config, served, version, who, why)


def promote(config: Config, version: str, who: str, why: str) -> Pointer:
    """Points to a version that was published before, once its bytes have proved sound.

    Raises `ModelNotFoundError`, `ModelFormatError`, or a `KafkaError`.
    """
    fetch(config, version)
    return _point(plain_producer(config.kafka), config, current(config), version, who, why)


def current(config: Config) -> Pointer | None:
    """The pointer as it stands; None when no model was published yet.

    Raises `TopicMissingError` without a models topic, `ModelFormatError` when the pointer is unsound.
    """
    message = _newest(config, POINTER)
    return Pointer.from_message(message) if message is not None and message.value() is not None else None


def fetch(config: Config, version: str) -> bytes:
    """An artifact's bytes, its SHA-256 verified.

    Raises `ModelNotFoundError` when there is none of that version, `ModelFormatError` when
    `version` is not 64 hexadecimal digits or the bytes are not those that it names.
    """
    if not VERSION.fullmatch(version):
        raise ModelFormatError(f"model version {version!r:.80}: expected 64 hexadecimal digits")
    message = _newest(config, _key(version))
    artifact = message.value() if message is not None else None
    if artifact is None:
        raise ModelNotFoundError(
            f"model version {version} is not on topic {config.topics.models!r}; see 'stream-detector models ls'"
        )
    if hashlib.sha256(artifact).hexdigest() != version:
        raise ModelFormatError(
            f"topic {config.topics.models!r}: the artifact of version {version} is damaged, its SHA-256 differs; "
            "publish it again with 'stream-detector models import FILE'"
        )
    return artifact


def versions(config: Config) -> list[VersionInfo]:
    """All published versions, the oldest first; reads the whole topic, one batch in memory at a time."""
    served: str | None = None
    found: dict[str, tuple[int, int]] = {}
    for message in _all(config):
        key, value = message.key() or b"", message.value()
        if key == POINTER:
            served = Pointer.from_message(message).version if value is not None else None
        elif isinstance(key, bytes) and (version := _version(key)):
            found.pop(version, None)  # what was published again counts as new
            if value is not None:
                found[version] = len(value), message.timestamp()[1]
    return [VersionInfo(version, size, at, version == served) for version, (size, at) in found.items()]


def resolve(config: Config, text: str) -> str:
    """The version that `text`, four or more of its first digits, names.

    Raises `ModelNotFoundError` when none or several begin so, `ModelFormatError` when it cannot be one.
    """
    if not VERSION_PREFIX.fullmatch(text):
        raise ModelFormatError(f"model version {text!r:.80}: expected 4 to 64 hexadecimal digits")
    matches = [info.version for info in versions(config) if info.version.startswith(text)]
    if len(matches) != 1:
        count = f"{len(matches)} versions begin" if matches else "no version begins"
        raise ModelNotFoundError(
            f"{count} with {text!r} on topic {config.topics.models!r}; see 'stream-detector models ls'"
        )
    return matches[0]


def _point(producer: Producer, config: Config, served: Pointer | None, version: str, who: str, why: str) -> Pointer:
    """Moves the pointer; pointing again to what serves keeps the way back."""
    previous = None
    if served is not None:
        previous = served.previous if served.version == version else served.version
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    pointer = Pointer(version, previous, who[:MAX_TEXT], when, why[:MAX_TEXT])
    _send(producer, config.topics.models, POINTER, json.dumps(asdict(pointer)).encode())
    return pointer


def _send(producer: Producer, topic: str, key: bytes, value: bytes) -> None:
    """Returns once the record is acknowledged by all in-sync replicas."""
    faults: list[Fault | None] = []
    producer.produce(topic, value, key, partition=PARTITION, on_delivery=lambda fault, _: faults.append(fault))
    producer.flush(TIMEOUT)
    subject = f"topic {topic!r}, record {key.decode()!r}"
    if not faults:
        raise BrokerUnavailableError(f"{subject}: not acknowledged within {TIMEOUT:.0f} s; check that the broker runs")
    if faults[0] is not None:
        raise translate(KafkaException(faults[0]), subject)


def _newest(config: Config, key: bytes) -> Message | None:
    """The last record under `key`, read from the end backwards."""
    for chunk in window.backwards(config.kafka, config.topics.models, PARTITION, _end(config), STEP):
        for message in reversed(chunk):
            if message.key() == key:
                return message
    return None


def _all(config: Config) -> Iterator[Message]:
    for batch in window.read(config.kafka, config.topics.models, PARTITION, 0, _end(config)):
        yield from batch


def _end(config: Config) -> int:
    topic = config.topics.models
    return topics.end_offsets(config.kafka, [topic])[topic, PARTITION]


def _key(version: str) -> bytes:
    return PREFIX + version.encode()


def _version(key: bytes) -> str | None:
    text = key.removeprefix(PREFIX).decode("ascii", "replace")
    return text if key.startswith(PREFIX) and VERSION.fullmatch(text) else None
