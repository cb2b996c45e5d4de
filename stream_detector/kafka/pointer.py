"""The pointer on the models topic: which version serves, and moving it so that nobody overwrites unseen.

Whoever moves it holds one transactional id, the same for all: taking it fences whoever held it, so
that between reading the pointer and writing it no one else can write. Of two who move it at once
one succeeds, and the other is told.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

from confluent_kafka import KafkaException, Message, Producer, TopicPartition

from stream_detector.config import Config
from stream_detector.errors import ModelFormatError, PointerMovedError
from stream_detector.kafka import topics, window
from stream_detector.kafka.clients import reader, registrar
from stream_detector.kafka.faults import FENCED, Verdict, classify, explained

__all__ = [
    "CURRENT",
    "PARTITION",
    "SHADOW",
    "VERSION",
    "Moves",
    "Pointer",
    "PointerWatch",
    "current",
    "exclusive",
    "newest",
    "shadow",
]

CURRENT, SHADOW = KEYS = b"current", b"shadow"
PARTITION = 0
STEP = 4  # offsets read at once, backwards; what is wanted is nearly always among the last three
ABORT = 10.0  # seconds
TIMEOUT = 60.0  # seconds for a transaction to be begun, and for one to be ended
VERSION = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which version serves, which served before, and who moved the pointer, when (RFC 3339) and why.

    `approved_by` is the person who chose the version, None when a program did; `approved` is the
    version that a person chose last, `first` the one that the topic began with, both carried on.
    """

    version: str
    previous: str | None
    who: str
    when: str
    why: str
    approved_by: str | None = None
    approved: str | None = None
    first: str | None = None

    @property
    def moment(self) -> datetime | None:
        """When it was moved; None when `when` is no time. Without a zone it is UTC."""
        try:
            moved = datetime.fromisoformat(self.when)
        except ValueError:
            return None
        return moved if moved.tzinfo else moved.replace(tzinfo=UTC)

    @property
    def anchor(self) -> str | None:
        """The version that later ones may not stray far from: the one approved, until then the first."""
        return self.approved or self.first

    @property
    def versions(self) -> frozenset[str]:
        """All versions that are still wanted."""
        return frozenset(version for version in (self.version, self.previous, self.anchor) if version)

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Read from the topic; raises `ModelFormatError` when it is no pointer of ours."""
        try:
            pointer = cls(**json.loads(message.value() or b""))
            named = filter(None, (pointer.previous, pointer.approved, pointer.first))
            sound = all(map(VERSION.fullmatch, (pointer.version, *named)))
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise ModelFormatError(
                f"topic {message.topic()!r}, offset {message.offset()}: not a model pointer; "
                "write a sound one with 'stream-detector models promote VERSION'"
            )
        return pointer

    def to_json(self) -> bytes:
        """The pointer's value on the topic."""
        return json.dumps(asdict(self)).encode()


class PointerWatch:
    """Follows the pointers as they move; for one thread, closed after use.

    Raises `TopicMissingError` without a models topic.
    """

    def __init__(self, config: Config) -> None:
        topic = config.topics.models
        end = _end(config)  # first, so that what is written meanwhile is seen twice rather than never
        self._unread = {key: message for key in KEYS if (message := newest(config, key)) is not None}
        self._consumer = reader(config.kafka)
        self._consumer.assign([TopicPartition(topic, PARTITION, end)])

    def poll(self, wait: float = 0.0) -> dict[bytes, Pointer | ModelFormatError | None]:
        """What moved since the last call, waiting so many seconds for a first: by `CURRENT` and `SHADOW`, the newest.

        None is a pointer taken away, an error one that is unsound. The first call gives them as they stand.
        """
        found, self._unread = self._unread, {}
        first = self._consumer.poll(0 if found else wait)
        for message in (first, *self._consumer.consume(STEP, 0)) if first is not None else ():  # no value is false, too
            key = message.key()
            if message.error() is None and key in KEYS:
                found[key] = message
        return {key: _sound(message) for key, message in found.items()}

    def close(self) -> None:
        """Lets go of the connection."""
        self._consumer.close()


class Moves:
    """What the holder of the pointer writes; all of it counts, or none."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer, self._topic = producer, topic

    def point(self, key: bytes, pointer: Pointer | None) -> None:
        """Writes a pointer under `CURRENT` or `SHADOW`; None takes it away."""
        self._write(key, pointer.to_json() if pointer else None)

    def erase(self, keys: Iterable[bytes]) -> None:
        """Deletes records by key, which compaction then drops."""
        for key in keys:
            self._write(key, None)

    def _write(self, key: bytes, value: bytes | None) -> None:
        self._producer.produce(self._topic, value, key, partition=PARTITION)
        self._producer.poll(0)


@contextmanager
def exclusive(config: Config) -> Iterator[Moves]:
    """A block in which nobody else moves the pointer; what it writes is committed at its end.

    Raises `PointerMovedError` when somebody else came in between, and another `KafkaError`
    when the broker does not do it; nothing has been written then, unless the message says otherwise.
    """
    producer = registrar(config.kafka, config.topics.models)
    try:
        _insist(producer.init_transactions)
        producer.begin_transaction()
        with _aborting(producer):
            yield Moves(producer, config.topics.models)
            _insist(producer.commit_transaction)
    except KafkaException as error:
        subject = f"moving the pointer on topic {config.topics.models!r}"
        if error.args[0].code() in FENCED:
            raise PointerMovedError(
                f"{subject}: somebody else moves it at this moment, so nothing was changed here; "
                "look with 'stream-detector models ls', and try again"
            ) from None
        raise explained(error.args[0], f"{subject} (see 'stream-detector models ls' for what holds now)") from None


@contextmanager
def _aborting(producer: Producer) -> Iterator[None]:
    """Ends the transaction where it cannot be committed, so that no reader has to wait for it."""
    try:
        yield
    except BaseException:
        with suppress(KafkaException):
            producer.abort_transaction(ABORT)
        raise


def _insist(call: Callable[[float], object]) -> None:
    """Makes a call of the producer, again while the client says that it may be."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            call(TIMEOUT)
        except KafkaException as error:
            if classify(error.args[0]) is not Verdict.RETRY or time.monotonic() > deadline:
                raise
        else:
            return


def current(config: Config) -> Pointer | None:
    """The pointer as it stands; None when no model was published yet.

    Raises `TopicMissingError` without a models topic, `ModelFormatError` when the pointer is unsound.
    """
    return _read(config, CURRENT)


def shadow(config: Config) -> Pointer | None:
    """The pointer to the candidate scored beside the current model, None when there is none; raises as `current`."""
    return _read(config, SHADOW)


def newest(config: Config, key: bytes) -> Message | None:
    """The last record of the models topic under `key`, read from the end backwards."""
    for chunk in window.backwards(config.kafka, config.topics.models, PARTITION, _end(config), STEP):
        for message in reversed(chunk):
            if message.key() == key:
                return message
    return None


def _sound(message: Message) -> Pointer | ModelFormatError | None:
    try:
        return Pointer.from_message(message) if message.value() is not None else None
    except ModelFormatError as error:
        return error


def _read(config: Config, key: bytes) -> Pointer | None:
    message = newest(config, key)
    return Pointer.from_message(message) if message is not None and message.value() is not None else None


def _end(config: Config) -> int:
    topic = config.topics.models
    return topics.end_offsets(config.kafka, [topic])[topic, PARTITION]
