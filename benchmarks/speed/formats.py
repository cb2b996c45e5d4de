"""g. The formats: the same records as JSON, Avro, bare vectors and Arrow batches."""

import json
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import orjson
import pyarrow as pa
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from benchmarks.speed import data
from benchmarks.speed.http_registry import http_registry
from benchmarks.speed.part import Measured
from benchmarks.speed.streams import Pace, best, ceiling, configure, fill, settled, work
from stream_detector.kafka.embedded import EmbeddedBroker

__all__ = ["run"]

FEATURES = 16
RECORDS = 400_000
ROWS = 1_000  # of an Arrow message
ROUNDS = 5  # the broker's own code is compiled in the first ones
LONGER = {"float32": 2, "arrow": 4}  # or they would be over in a moment


def run(quick: bool) -> Measured:
    """By format: bytes a record, paces of ceiling and worker, the worker against JSON."""
    values = data.json_values(FEATURES)
    made = {"json": values, "avro": _avro(values), "float32": _vectors(), "arrow": _arrow(values)}
    records = RECORDS // 5 if quick else RECORDS
    found, lines = {}, []
    for name, messages in made.items():
        dense = ROWS if name == "arrow" else 1
        found[name] = _paces(name, messages, records * LONGER.get(name, 1) // dense)
        floor, worker = found[name]
        size = sum(map(len, messages)) / len(messages) / dense
        against = worker.wall / found["json"][1].wall
        lines.append(
            (name, f"{size:.0f}", f"{floor.wall:,.0f}", f"{worker.wall:,.0f}", f"{worker.cpu:,.0f}", f"{against:.2f}")
        )
    json_worker = found["json"][1]
    figures = {f"{name}_to_json": worker.wall / json_worker.wall for name, (_, worker) in found.items()}
    figures |= {f"{name}_to_json_cpu": worker.cpu / json_worker.cpu for name, (_, worker) in found.items()}
    note = (
        f"{FEATURES} features; Arrow with {ROWS:,} rows a message; Avro's schema from a registry over HTTP. As part a."
    )
    head = ("format", "bytes a record", "ceiling/s", "worker/s", "worker per CPU s", "times JSON")
    return Measured("Formats", note, head, tuple(lines), figures)


def _paces(name: str, messages: Sequence[bytes], count: int) -> tuple[Pace, Pace]:
    model, path = data.model(FEATURES), "" if name == "arrow" else "features"
    with EmbeddedBroker() as broker, http_registry(SCHEMA) if name == "avro" else nullcontext() as address:
        record = {"format": name, "registry_url": address, "features_path": path}
        config = configure(broker.bootstrap_servers, record=record)
        fill(config, messages, count)
        settled(config)
        floors, workers = [], []
        for _ in range(ROUNDS):
            floors.append(ceiling(config, model.schema))
            workers.append(work(config, model)[0])
    return best(floors), best(workers)


SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "Telemetry",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "time", "type": "long"},
            {"name": "entity", "type": "string"},
            {
                "name": "features",
                "type": {
                    "type": "record",
                    "name": "Features",
                    "fields": [{"name": name, "type": "double"} for name in data.names(FEATURES)],
                },
            },
        ],
    }
)


def _avro(values: Sequence[bytes]) -> list[bytes]:
    serialize = AvroSerializer(SchemaRegistryClient.new_client({"url": "mock://formats"}), SCHEMA)
    context = SerializationContext("telemetry", MessageField.VALUE)
    return [serialize(orjson.loads(value), context) for value in values]


def _vectors() -> list[bytes]:
    return [row.tobytes() for row in data.matrix(FEATURES).astype("<f4")]


def _arrow(values: Sequence[bytes]) -> list[bytes]:
    documents = [orjson.loads(value) for value in values]
    messages = []
    for first in range(0, len(documents), ROWS):
        part = documents[first : first + ROWS]
        columns = {name: pa.array([each[name] for each in part]) for name in ("id", "time", "entity")}
        numbers = np.array([list(each["features"].values()) for each in part], dtype=np.float32)
        columns |= {name: pa.array(numbers[:, at]) for at, name in enumerate(data.names(FEATURES))}
        sink = pa.BufferOutputStream()
        table = pa.table(columns)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        messages.append(sink.getvalue().to_pybytes())
    return messages
