"""Reads and moves the pointer on the models topic, which says what version serves; nobody overwrites it unseen.

Whoever moves it holds one transactional id, the same for all: taking it fences whoever held it, so
that between reading the pointer and writing it no one else can write. Of two who move it at once
one succeeds, and the other is told.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache

import structlog
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, Message, Producer
from confluent_kafka import TopicPartition as TopicPartitionOffset

from stream_detector.config import Config
from stream_detector.errors import KafkaError, ModelFormatError, PointerMovedError, TopicMissingError
from stream_detector.kafka import reads, topics
from stream_detector.kafka.clients import reader, registrar
from stream_detector.kafka.faults import FENCED, TRANSLATION, FaultClass, classify, explained
from stream_detector.records import raw
from stream_detector.records.pointer import VERSION, Pointer

__all__ = [
    "CURRENT",
    "PARTITION",
    "SHADOW",
    "VERSION",
    "Pointer",
    "PointerWatch",
    "PointerWriter",
    "current",
    "exclusive_writer",
    "newest",
    "read_pointer",
    "shadow",
]

CURRENT, SHADOW = KEYS = b"current", b"shadow"
PARTITION = 0
STEP = 4  # offsets read at once, backwards; what is wanted is nearly always among the last three
ABORT = 10.0  # seconds
READABLE = 10.0  # seconds to wait after a commit until readers see it
PAUSE = 0.02  # seconds between two looks meanwhile
LOOK = 5.0  # seconds between two looks whether the topic is there, and for an answer
TIMEOUT = 60.0  # seconds for a transaction to be begun, and for one to be ended

OnUnsound = Callable[[ModelFormatError], None]
"""Takes the error of a record under a pointer's key that is no pointer."""

log = structlog.get_logger(__name__)


class PointerWatch:
    """Follows the pointers as they move; for one thread, closed after use.

    `unsound` takes the error of a record that is no pointer; without it a log line tells, once. Raises `TopicMissingError` without a
    models topic.
    """

    def __init__(self, config: Config, unsound: OnUnsound | None = None) -> None:
        self._kafka, self._topic = config.kafka, config.topics.models
        self._unsound = unsound or _pass_over
        end = _end(config)  # first, so that what is written meanwhile is seen twice rather than never
        self._unread = {key: pointer for key in KEYS for pointer in _standing(config, key, self._unsound)}
        self._looked = time.monotonic()
        self._consumer = reader(config.kafka)
        self._consumer.assign([TopicPartitionOffset(self._topic, PARTITION, end)])

    def poll(self, wait: float = 0.0) -> Mapping[bytes, Pointer | None]:
        """Gives the newest pointers that moved since the last call, by `CURRENT` and `SHADOW`; waits `wait` seconds for one.

        None is a pointer taken away. The first call gives both as they stand. Raises a `KafkaError` when the topic
        is gone.
        """
        found: dict[bytes, Pointer | None] = dict(self._unread)
        self._unread = {}
        first = self._consumer.poll(0 if found else wait)
        for message in (first, *self._consumer.consume(STEP, 0)) if first is not None else ():  # no value is false, too
            if (fault := message.error()) is not None:
                self._check(fault)
            elif (key := message.key()) in KEYS:
                self._take(key, message, found)
        self._require_topic()
        return found

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    def _take(self, key: bytes, message: Message, found: dict[bytes, Pointer | None]) -> None:
        try:
            found[key] = read_pointer(message)
        except ModelFormatError as error:
            self._unsound(error)

    def _require_topic(self) -> None:
        """Asks now and then whether the topic is still there, for its readers are not told when it goes."""
        if time.monotonic() - self._looked > LOOK:
            with suppress(KafkaException):
                if fault := self._consumer.list_topics(self._topic, timeout=LOOK).topics[self._topic].error:
                    self._check(fault)
            self._looked = time.monotonic()

    def _check(self, fault: Fault) -> None:
        """Raises for a topic that is gone; a partition's end is no fault, and a connection comes back by itself."""
        if TRANSLATION.get(fault.code()) is TopicMissingError:
            topics.require(self._kafka, [self._topic])


class PointerWriter:
    """Writes to the models topic for the holder of the pointer; all of it counts, or none."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer, self._topic = producer, topic
        self.end = 0
        """The offset behind the last record written, once it was acknowledged."""

    def point(self, key: bytes, pointer: Pointer | None) -> None:
        """Writes a pointer under `CURRENT` or `SHADOW`; None takes it away."""
        self._write(key, pointer.to_json() if pointer else None)

    def erase(self, keys: Iterable[bytes]) -> None:
        """Deletes records by key, which compaction then drops."""
        for key in keys:
            self._write(key, None)

    def _write(self, key: bytes, value: bytes | None) -> None:
        self._producer.produce(self._topic, value, key, partition=PARTITION, on_delivery=self._on_delivery)
        self._producer.poll(0)

    def _on_delivery(self, fault: Fault | None, message: Message) -> None:
        if fault is None:
            self.end = max(self.end, (message.offset() or 0) + 1)


@contextmanager
def exclusive_writer(config: Config) -> Iterator[PointerWriter]:
    """Keeps others from moving the pointer during a block; its end commits what it wrote, and waits until that can be read.

    Raises `PointerMovedError` when somebody else came in between, and another `KafkaError`
    when the broker does not do it; nothing has been written then, unless the message says otherwise.
    """
    producer = registrar(config.kafka, config.topics.models)
    try:
        _retried(producer.init_transactions)
        producer.begin_transaction()
        with _aborting(producer):
            writer = PointerWriter(producer, config.topics.models)
            yield writer
            _retried(producer.commit_transaction)
        _await_readable(config, writer.end)
    except KafkaException as error:
        subject = f"moving the pointer on topic {config.topics.models!r}"
        if error.args[0].code() in FENCED:
            raise PointerMovedError(
                f"{subject}: somebody else moves it at this moment, so nothing was changed here; "
                "look with 'stream-detector models ls', and try again"
            ) from None
        raise explained(error.args[0], f"{subject} (see 'stream-detector models ls' for what holds now)") from None


def _await_readable(config: Config, end: int) -> None:
    """Waits until readers of what is committed see the topic up to `end`: a commit returns before its marker is written.

    Where that takes too long, another writer's open transaction lies before it: what was written counts all the same.
    """
    deadline = time.monotonic() + READABLE
    why = "a transaction before it is still open"
    while end and time.monotonic() < deadline:
        try:
            if _end(config) >= end:
                return
        except KafkaError as error:
            why = str(error)
        time.sleep(PAUSE)
    if end:
        log.warning("the pointer has moved, but readers may see it later", topic=config.topics.models, why=why)


@contextmanager
def _aborting(producer: Producer) -> Iterator[None]:
    """Ends the transaction where it cannot be committed, so that no reader has to wait for it."""
    try:
        yield
    except BaseException:
        with suppress(KafkaException):
            producer.abort_transaction(ABORT)
        raise


def _retried(call: Callable[[float], object]) -> None:
    """Makes a call of the producer, and repeats it while its fault is retriable."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            call(TIMEOUT)
        except KafkaException as error:
            if classify(error.args[0]) is not FaultClass.RETRIABLE or time.monotonic() > deadline:
                raise
        else:
            return


def current(config: Config, unsound: OnUnsound | None = None) -> Pointer | None:
    """Reads the last sound pointer; None when no model was published yet, or it was taken away.

    `unsound` takes the error of a later record that is no pointer; without it a log line tells, once. Raises `TopicMissingError`
    without a models topic.
    """
    return next(_standing(config, CURRENT, unsound or _pass_over), None)


def shadow(config: Config) -> Pointer | None:
    """Reads the pointer to the candidate scored beside the current model, None when there is none; raises as `current`."""
    return next(_standing(config, SHADOW, _pass_over), None)


def newest(config: Config, key: bytes) -> Message | None:
    """Finds the last record of the models topic under `key`, reading backwards from the end."""
    return next(_backwards(config, key), None)


def _backwards(config: Config, key: bytes) -> Iterator[Message]:
    for chunk in reads.backwards(config.kafka, config.topics.models, PARTITION, _end(config), STEP):
        yield from (message for message in reversed(chunk) if message.key() == key)


def _standing(config: Config, key: bytes, unsound: OnUnsound) -> Iterator[Pointer | None]:
    """Yields the last sound pointer, or None where it was taken away; the last unsound record behind it is told."""
    told = False
    for message in _backwards(config, key):
        try:
            yield read_pointer(message)
        except ModelFormatError as error:
            if not told:
                unsound(error)
            told = True
        else:
            return


def read_pointer(message: Message) -> Pointer | None:
    """Reads the pointer in a record under a pointer's key; None = taken away. Raises `ModelFormatError`."""
    value = raw(message.value())
    return None if value is None else Pointer.from_json(value, f"topic {message.topic()!r}, offset {message.offset()}")


def _pass_over(error: ModelFormatError) -> None:
    _say(str(error))


@lru_cache(maxsize=256)  # services look again and again
def _say(why: str) -> None:
    log.warning("a pointer is passed over", why=why)


def _end(config: Config) -> int:
    topic = config.topics.models
    return topics.end_offsets(config.kafka, [topic])[topic, PARTITION]
