"""Sends a stream of records to a topic, or to a file, at a rate; shows how far it is.

What the producing programs share: where records go, how fast, and how the end is reported.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stream_detector.config import Config, KafkaConfig, load_config
from stream_detector.errors import ConfigError, KafkaError, WriteError
from stream_detector.kafka.clients import plain_producer, require_broker
from stream_detector.kafka.faults import translate
from stream_detector.kafka.properties import faults
from stream_detector.kafka.topics import require
from stream_detector.records import printable
from stream_detector.runtime.logs import Terminal

__all__ = ["Message", "add_target", "feed", "publish", "settings"]

Message = tuple[bytes | None, bytes]  # key, value
Delivered = Callable[[Any, object], None]

BURST_S = 0.02  # shortest pause; sleeping for each record would cap the rate at the timer's resolution
FLUSH_S = 60.0
PATIENCE_S = 5.0  # for a person who waits for the first sign of life
BACKLOG_WAIT_S = 1.0


def add_target(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where the records go, and how fast."""
    parser.add_argument("--rate", type=float, help="records a second (default: as fast as possible)")
    parser.add_argument(
        "-c", "--config", type=Path, help="configuration file, for its kafka, topics and record sections"
    )
    parser.add_argument("--bootstrap-servers", help="host:port list, instead of the configuration's")
    parser.add_argument("--topic", help="topic, instead of the configuration's first telemetry topic")
    parser.add_argument("--out", type=Path, help="write JSON lines to this file instead of Kafka; - is standard output")


def settings(arguments: argparse.Namespace) -> Config:
    """The configuration that `add_target`'s options name; raises `ConfigError` when it calls for records of another format."""
    config = load_config(arguments.config, faults)
    if config.record.format != "json":
        raise ConfigError(f"record.format: {config.record.format}; this program writes JSON only")
    return config


def feed(messages: Iterable[Message], arguments: argparse.Namespace, config: Config, total: int | None) -> None:
    """Sends the messages where `add_target`'s options say.

    Raises `ConfigError` on a bad rate, `KafkaError` when the topic is missing or a record is refused.
    """
    if arguments.rate is not None and not arguments.rate > 0:
        raise ConfigError(f"--rate: {arguments.rate:g} records a second; give a number above 0")
    paced = _paced(messages, arguments.rate)
    if arguments.out:
        _write(_shown(paced, str(arguments.out), total), arguments.out)
        return
    kafka = config.kafka
    if arguments.bootstrap_servers:
        kafka = kafka.at(arguments.bootstrap_servers)
    topic = arguments.topic or config.topics.telemetry[0]
    require_broker(kafka, PATIENCE_S)
    require(kafka, [topic])
    publish(_shown(paced, topic, total), kafka, topic)


def publish(messages: Iterable[Message], kafka: KafkaConfig, topic: str) -> int:
    """Produces all messages to `topic` and waits until the broker has them; returns how many."""
    producer = plain_producer(kafka)
    refused: list[KafkaError] = []

    def delivered(fault: Any, _message: object) -> None:
        if fault is not None:
            refused.append(translate(fault, f"topic {topic!r} on {kafka.bootstrap_servers}"))

    sent = 0
    try:
        for key, value in messages:
            _produce(producer, topic, key, value, delivered)
            sent += 1
            if refused:
                break
    finally:
        left = producer.flush(FLUSH_S)
    if refused:
        raise refused[0]
    if left:
        raise KafkaError(f"topic {topic!r}: {left:,} of {sent:,} records were not taken within {FLUSH_S:.0f} s")
    return sent


def _produce(producer: Any, topic: str, key: bytes | None, value: bytes, delivered: Delivered) -> None:
    while True:
        try:
            producer.produce(topic, value, key, on_delivery=delivered)
        except BufferError:  # the queue is full; wait for the broker
            producer.poll(BACKLOG_WAIT_S)
        else:
            producer.poll(0)
            return


def _write(messages: Iterable[Message], path: Path) -> None:
    lines = (value + b"\n" for _, value in messages)
    if str(path) == "-":
        sys.stdout.buffer.writelines(lines)
        return
    try:
        with path.open("wb") as file:
            file.writelines(lines)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({error.strerror}); check the path given with --out") from None


def _paced(messages: Iterable[Message], rate: float | None) -> Iterator[Message]:
    """The messages, each held back until it is due; a consumer that was slow catches up in a burst."""
    if rate is None:
        yield from messages
        return
    start = time.monotonic()
    for number, message in enumerate(messages):
        early = start + number / rate - time.monotonic()
        if early > BURST_S:
            time.sleep(early)
        yield message


def _shown(messages: Iterable[Message], where: str, total: int | None) -> Iterator[Message]:
    """The messages, counted on standard error: a bar on a terminal, one line at the end anywhere."""
    console = Terminal(stderr=True)
    start = time.monotonic()
    sent = 0
    try:
        for message in _bar(messages, console, total) if console.is_terminal else messages:
            yield message
            sent += 1
    finally:
        seconds = max(time.monotonic() - start, 1e-9)
        print(
            f"{sent:,} records to {printable(where)} in {seconds:.1f} s ({sent / seconds:,.0f} records/s)",
            file=sys.stderr,
        )


def _bar(messages: Iterable[Message], console: Terminal, total: int | None) -> Iterator[Message]:
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(messages, total=total, update_period=0.2)
