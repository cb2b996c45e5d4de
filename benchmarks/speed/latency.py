"""e. Latency: from a record's produce call to its alert being readable under read_committed."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread

import numpy as np
import orjson
import yaml
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from benchmarks.speed import data
from benchmarks.speed.part import Measured
from benchmarks.speed.streams import configure
from stream_detector.config import Config
from stream_detector.kafka import topics
from stream_detector.kafka.clients import plain_producer, reader
from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.registry import store

__all__ = ["run"]

FEATURES = 16
RATES = (100, 2_000, 20_000)
ALERTS = 20  # a second, where the rate allows
SECONDS, WARM = 20, 12  # a broker just started answers slowly until its code is compiled
START = 90.0
RUN = "from stream_detector.cli import main; main()"


def run(quick: bool) -> Measured:
    """By rate: the 50th, 95th and 99th percentile, milliseconds."""
    lines, figures = [], {}
    with EmbeddedBroker() as broker:
        for rate in RATES:
            found = _measure(configure(broker.bootstrap_servers), rate, SECONDS // 2 if quick else SECONDS)
            p50, p95, p99 = (1_000 * float(np.quantile(found, q)) for q in (0.5, 0.95, 0.99))
            lines.append((f"{rate:,}", f"{p50:.0f}", f"{p95:.0f}", f"{p99:.0f}", f"{len(found):,}"))
            figures |= {f"p50_ms_{rate}": p50, f"p99_ms_{rate}": p99}
    note = (
        f"{FEATURES} features, JSON, 4 partitions, the worker with its defaults in a process of its own; producer, broker, worker "
        "and reader share the machine. Producer and reader use the client's defaults."
    )
    return Measured("Latency", note, ("records/s", "p50, ms", "p95, ms", "p99, ms", "alerts"), tuple(lines), figures)


def _measure(config: Config, rate: int, seconds: int) -> list[float]:
    store.publish(config, data.model(FEATURES).to_bytes(), "benchmark", "latency")
    values, faulty = _values(rate, rate * (seconds + WARM))
    sent: dict[str, float] = {}
    seen: dict[str, float] = {}
    stop = Event()
    watching = Thread(target=_watch, args=(config, seen, stop), daemon=True)
    watching.start()
    with tempfile.TemporaryDirectory(prefix="latency-") as folder:
        path = Path(folder) / "detector.yaml"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")
        worker = subprocess.Popen([sys.executable, "-c", RUN, "run", "-c", str(path)], stderr=subprocess.DEVNULL)
        try:
            _await_alert(config, values[min(faulty)], seen)
            _produce(config, values, faulty, rate, sent)
            time.sleep(2)
        finally:
            worker.terminate()
            worker.wait(60)
            stop.set()
            watching.join()
    begin = min(sent.values()) + WARM
    return [seen[name] - at for name, at in sent.items() if name in seen and at >= begin]


def _values(rate: int, count: int) -> tuple[list[bytes], set[int]]:
    """Records with ids of their own, and which of them are faulty beyond doubt."""
    matrix = data.matrix(FEATURES, min(count, data.DISTINCT)).astype(float)
    matrix = np.resize(matrix, (count, FEATURES))
    every = max(rate // ALERTS, 20)
    faulty = set(range(every, count, every))
    matrix[sorted(faulty), 3] += 500.0
    names = data.names(FEATURES)
    values = [
        orjson.dumps({"id": f"r{at}", "entity": "host", "features": dict(zip(names, row, strict=True))})
        for at, row in enumerate(matrix.round(4).tolist())
    ]
    return values, faulty


def _await_alert(config: Config, value: bytes, seen: dict[str, float]) -> None:
    """Sends a faulty record until the worker has started and answers."""
    producer, deadline = plain_producer(config.kafka), time.monotonic() + START
    while not seen:
        producer.produce(config.topics.telemetry[0], value, partition=0)
        producer.flush(5)
        time.sleep(0.5)
        if time.monotonic() > deadline:
            raise TimeoutError("the worker raises no alert")
    time.sleep(1)
    seen.clear()


def _produce(config: Config, values: Sequence[bytes], faulty: set[int], rate: int, sent: dict[str, float]) -> None:
    producer, start = plain_producer(config.kafka), time.perf_counter()
    for at, value in enumerate(values):
        wait = start + at / rate - time.perf_counter()
        if wait > 0.001:
            time.sleep(wait)
        if at in faulty:
            sent[f"r{at}"] = time.perf_counter()
        producer.produce(config.topics.telemetry[0], value, partition=at % config.topics.partitions)
        producer.poll(0)
    producer.flush(30)


def _watch(config: Config, seen: dict[str, float], stop: Event) -> None:
    consumer = reader(config.kafka)
    ends = topics.end_offsets(config.kafka, (config.topics.alerts,))
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in ends])
    while not stop.is_set():
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            seen.setdefault(orjson.loads(message.value())["event_id"], time.perf_counter())
    consumer.close()
