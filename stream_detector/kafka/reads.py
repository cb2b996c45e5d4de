"""Reads a part of a partition: from one offset to another, or backwards from one; nothing is committed.

Offsets have gaps (transaction markers, compaction) and a log may begin later than asked for
(retention): both are normal here, and the records that exist in the range come out.
"""

import time
from collections.abc import Callable, Iterator
from typing import Self

from confluent_kafka import Consumer, KafkaException, Message
from confluent_kafka import KafkaError as Fault
from confluent_kafka import TopicPartition as TopicPartitionOffset

from stream_detector.config import KafkaConfig
from stream_detector.errors import BrokerUnavailableError, TopicMissingError
from stream_detector.kafka.clients import reader
from stream_detector.kafka.faults import TRANSLATION, translate

__all__ = ["PartitionReader", "backwards", "read"]

CHUNK_BYTES = 128 * 2**20  # of a chunk of several messages that is read backwards
BATCH = 10_000  # messages handed out at once; the client's own queue bounds their bytes
STALL = 30.0  # seconds without a message, an end or an answer
TIMEOUT = 15.0  # seconds for a request about offsets
SLICE = 5.0  # seconds that one attempt of it may block


def read(kafka: KafkaConfig, topic: str, partition: int, start: int, end: int) -> Iterator[list[Message]]:
    """Yields the committed records with start <= offset < end, in order, in batches; none is empty.

    A start that is no longer retained means the first record that is. Raises `TopicMissingError`,
    or `BrokerUnavailableError` after 30 s without progress.
    """
    with PartitionReader(kafka) as one:
        yield from one.read(topic, partition, start, end)


def backwards(kafka: KafkaConfig, topic: str, partition: int, end: int, step: int) -> Iterator[list[Message]]:
    """Yields the committed records before `end`, in chunks of `step` offsets and then more, the latest chunk first.

    Within a chunk records are in order. Chunks are shorter where records are large or offsets have gaps, and empty ones
    are left out; the last one ends where the log begins. Whoever needs the last records of a kind that the log cannot
    select takes chunks until there are enough. Raises as `read` does.
    """
    with PartitionReader(kafka) as one:
        yield from one.backwards(topic, partition, end, step)


class PartitionReader:
    """Makes many reads with one client, one after the other; a context manager.

    `beat` is called again and again while it waits.
    """

    def __init__(self, kafka: KafkaConfig, beat: Callable[[], None] = lambda: None) -> None:
        self._consumer = reader(kafka)
        self._beat = beat

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close()

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[list[Message]]:
        """Reads as the function `read` does."""
        low, high = self._reach(topic, partition)
        yield from self._span(topic, partition, max(start, low), min(end, high))

    def backwards(self, topic: str, partition: int, end: int, step: int) -> Iterator[list[Message]]:
        """Reads as the function `backwards` does."""
        low, high = self._reach(topic, partition)
        end, most = min(end, high), BATCH
        while end > low:
            start = max(low, end - step)
            chunk = self._chunk(topic, partition, start, end)
            if chunk is None:
                step = most = max(1, (end - start) // 4)
                continue
            if chunk:
                yield chunk
            end, step = start, max(step, min(2 * step, most))

    def _chunk(self, topic: str, partition: int, start: int, end: int) -> list[Message] | None:
        """Gives the messages of a range; None when they are too large to be held together."""
        chunk: list[Message] = []
        size = 0
        for batch in self._span(topic, partition, start, end):
            chunk += batch
            size += sum(len(message.value() or b"") for message in batch)
            if size > CHUNK_BYTES and end - start > 1:
                return None
        return chunk

    def _reach(self, topic: str, partition: int) -> tuple[int, int]:
        """Finds the first retained offset, and the one after the last committed record."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            self._beat()
            try:
                return self._consumer.get_watermark_offsets(
                    TopicPartitionOffset(topic, partition), timeout=min(SLICE, TIMEOUT)
                )
            except UnicodeEncodeError:
                raise TopicMissingError(f"topic {topic!r}: is no name that Kafka takes; give another one") from None
            except KafkaException as error:
                # While a broker restarts its partitions have no leader for a moment, and that is no end.
                if TRANSLATION.get(error.args[0].code()) is not BrokerUnavailableError or time.monotonic() > deadline:
                    raise translate(error, f"topic {topic!r}, partition {partition}") from None
            time.sleep(0.05)

    def _span(self, topic: str, partition: int, start: int, end: int) -> Iterator[list[Message]]:
        """Yields the records of a range; it ends at a record beyond it, or where the partition itself ends."""
        if start >= end:
            return
        self._consumer.assign([TopicPartitionOffset(topic, partition, start)])
        moved = time.monotonic()
        done = False
        while not done:
            self._beat()
            messages = _available(self._consumer)
            if messages:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL:
                raise BrokerUnavailableError(
                    f"topic {topic!r}, partition {partition}: no answer for {STALL:.0f} s; check that the broker runs"
                )
            inside = [m for m in messages if m.error() is None and start <= _offset(m) < end]
            done = any(_beyond(message, end, topic) for message in messages)
            if inside:
                yield inside


def _available(consumer: Consumer) -> list[Message]:
    """Gives what has arrived; waits for the first message only, since a batch call would wait out its time limit."""
    first = consumer.poll(0.5)
    return [] if first is None else [first, *consumer.consume(BATCH - 1, 0)]


def _beyond(message: Message, end: int, topic: str) -> bool:
    """Tells whether this message shows that the range is complete; a fault that does not pass is raised."""
    fault = message.error()
    if fault is None:
        return _offset(message) >= end - 1
    if fault.code() == Fault._PARTITION_EOF:  # noqa: SLF001 - so named by librdkafka
        return True
    if TRANSLATION.get(fault.code()) is BrokerUnavailableError:  # the client reconnects by itself
        return False
    raise translate(fault, f"topic {topic!r}")


def _offset(message: Message) -> int:
    offset = message.offset()
    return -1 if offset is None else offset
