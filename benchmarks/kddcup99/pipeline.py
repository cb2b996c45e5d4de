"""The records through a real Kafka and a worker of their own process, as an operator runs it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from consumers.tail import alerts
from producers.feed import Message, publish
from stream_detector.config import Config, load_config
from stream_detector.errors import StreamDetectorError
from stream_detector.kafka import topics
from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.kafka.follow import follow
from stream_detector.model import DetectorModel
from stream_detector.records import Alert
from stream_detector.registry import store

__all__ = ["Replay", "replay"]


@dataclass(frozen=True)
class Replay:
    """What came out: the alerts, how many records there were, and how long the worker took from start to end."""

    alerts: list[Alert]
    records: int
    seconds: float


def replay(model: DetectorModel, telemetry: Iterator[Message]) -> Replay:
    """Publishes model and telemetry to an embedded broker and runs `stream-detector run --until-end` on them."""
    with EmbeddedBroker() as broker, _config(broker.bootstrap_servers) as (config, path):
        topics.create(config)
        store.publish(config, model.to_bytes(), "benchmark", "fitted on the first normal records")
        records = publish(telemetry, config.kafka, config.topics.telemetry[0])
        start = time.perf_counter()
        _run(path)
        seconds = time.perf_counter() - start
        found = follow(config.kafka, config.topics.alerts, from_beginning=True, endless=False)
        return Replay(list(alerts(found)), records, seconds)


@contextmanager
def _config(address: str) -> Iterator[tuple[Config, Path]]:
    """One partition, so that the file's order is the stream's; everything else is the default."""
    values = {
        "kafka": {"bootstrap_servers": address, "group_id": "kddcup99"},
        "topics": {"partitions": 1},
        "worker": {"device": "cpu"},
        "log": {"level": "warning"},
    }
    with TemporaryDirectory(prefix="kddcup99-") as directory:
        path = Path(directory) / "detector.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        yield load_config(path), path


def _run(path: Path) -> None:
    command = [str(Path(sys.executable).with_name("stream-detector")), "run", "-c", str(path), "--until-end"]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise StreamDetectorError(f"'stream-detector run' ended with exit code {done.returncode}; see its log above")
