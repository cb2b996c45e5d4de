"""g. The formats: the same records as JSON, Avro, bare vectors and Arrow batches."""

import json
from collections.abc import Mapping, Sequence

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
from stream_detector.config import Config
from stream_detector.kafka.embedded import EmbeddedBroker

__all__ = ["run"]

FEATURES = 16
RECORDS = 400_000
ROWS = 1_000  # of an Arrow message
ROUNDS = 5  # every format in turn: the machine changes from minute to minute, and the broker compiles its code in the first ones
SHARE = {"avro": 0.25, "float32": 2, "arrow": 4}  # of the records: or they would take minutes, or be over in a moment


def run(quick: bool) -> Measured:
    """By format: bytes a record, paces of ceiling and worker, the worker against JSON."""
    values = data.json_values(FEATURES)
    made = {"json": values, "avro": _avro(values), "float32": _vectors(), "arrow": _arrow(values)}
    found = _paces(made, RECORDS // 5 if quick else RECORDS)
    lines, json_worker = [], found["json"][1]
    for name, (floor, worker) in found.items():
        size = sum(map(len, made[name])) / len(made[name]) / _rows(name)
        against = worker.wall / json_worker.wall
        lines.append(
            (name, f"{size:.0f}", f"{floor.wall:,.0f}", f"{worker.wall:,.0f}", f"{worker.cpu:,.0f}", f"{against:.2f}")
        )
    figures = {f"{name}_to_json": worker.wall / json_worker.wall for name, (_, worker) in found.items()}
    figures |= {f"{name}_to_json_cpu": worker.cpu / json_worker.cpu for name, (_, worker) in found.items()}
    note = (
        f"{FEATURES} features; Arrow with {ROWS:,} rows a message; Avro's schema from a registry over HTTP. As part a; "
        f"the best of {ROUNDS} rounds, in each of which every format has its turn."
    )
    head = ("format", "bytes a record", "ceiling/s", "worker/s", "worker per CPU s", "times JSON")
    return Measured("Formats", note, head, tuple(lines), figures)


def _rows(name: str) -> int:
    return ROWS if name == "arrow" else 1


def _paces(made: Mapping[str, Sequence[bytes]], records: int) -> dict[str, tuple[Pace, Pace]]:
    """The best pace of ceiling and worker, by format."""
    model = data.model(FEATURES)
    floors: dict[str, list[Pace]] = {name: [] for name in made}
    workers: dict[str, list[Pace]] = {name: [] for name in made}
    with EmbeddedBroker() as broker, http_registry(SCHEMA) as address:
        configs = {name: _configured(broker, name, address) for name in made}
        for name, config in configs.items():
            fill(config, made[name], int(records * SHARE.get(name, 1)) // _rows(name))
            settled(config)
        for _ in range(ROUNDS):
            for name, config in configs.items():
                floors[name].append(ceiling(config, model.schema))
                workers[name].append(work(config, model)[0])
    return {name: (best(floors[name]), best(workers[name])) for name in made}


def _configured(broker: EmbeddedBroker, name: str, address: str) -> Config:
    record: dict[str, object] = {"format": name, "features_path": "" if name == "arrow" else "features"}
    if name == "avro":
        record["registry_url"] = address
    return configure(broker.bootstrap_servers, record=record)


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
