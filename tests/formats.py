"""Records in every format."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import orjson
import pyarrow as pa

from stream_detector.config import RecordConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_detector.records import Decoder

FORMATS = get_args(RecordConfig.model_fields["format"].annotation)
"""Every format that can be configured."""


def vector(names, features):
    """Features as a float32 vector; one that is not there is NaN."""
    return np.array([features.get(name, np.nan) for name in names], dtype="<f4").tobytes()


def batch(rows, **columns):
    """Rows as one Arrow IPC stream; `columns` replace or add top-level columns."""
    table = pa.Table.from_pylist(rows) if rows else pa.table({})
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.append_column(name, values) if place < 0 else table.set_column(place, name, values)
    return stream(table)


def stream(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def avro_schema(numbers, texts=()):
    """A record of id, entity, time and nullable features."""
    features = [{"name": name, "type": ["null", "double"], "default": None} for name in numbers]
    features += [{"name": name, "type": ["null", "string"], "default": None} for name in texts]
    inner = {"type": "record", "name": "Features", "fields": features}
    head = [
        {"name": "id", "type": ["null", "string"], "default": None},
        {"name": "entity", "type": ["null", "string"], "default": None},
        {"name": "time", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": None},
    ]
    return json.dumps({"type": "record", "name": "T", "fields": [*head, {"name": "features", "type": inner}]})


def avro_writer(client, schema):
    """Objects to framed Avro, the schema registered."""
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    serialize = AvroSerializer(client, schema)
    context = SerializationContext("telemetry", MessageField.VALUE)
    return lambda document: serialize(document, context)


@dataclass(frozen=True)
class Wire:
    """A format as producers and the detector meet it: `decoder(**record settings)`, and `write(row)` to bytes.

    A row is {"id", "entity", "time", "features"}; `nameless` formats carry features alone, which are numbers.
    """

    decoder: "Callable[..., Decoder]"
    write: "Callable[[dict], bytes]"
    nameless: bool = False


def wire(name, numbers, texts=()):
    """The wire of a format for records of these features; a new format is added to `WIRES`."""
    assert name in WIRES, f"tests/formats.py: add to WIRES how records of format {name!r} are written"
    return WIRES[name](numbers, texts)


def _plain(name, write, **options):
    from stream_detector.records import Decoder

    return Wire(lambda **settings: Decoder(RecordConfig(format=name, **settings)), write, **options)


def _vectors(row, numbers):
    with np.errstate(over="ignore"):
        return vector(numbers, {name: np.nan if value is None else value for name, value in row["features"].items()})


def _avro(numbers, texts):
    from confluent_kafka.schema_registry import SchemaRegistryClient

    from stream_detector.kafka.avro import AvroReader
    from stream_detector.records import Decoder

    address = "mock://wire"
    client = SchemaRegistryClient.new_client({"url": address})

    def decoder(**settings):
        config = RecordConfig(format="avro", registry_url=address, **settings)
        return Decoder(config, AvroReader(config, client))

    return Wire(decoder, avro_writer(client, avro_schema(numbers, texts)))


WIRES = {
    "json": lambda numbers, texts: _plain("json", orjson.dumps),
    "avro": _avro,
    "arrow": lambda numbers, texts: _plain("arrow", lambda row: batch([row])),
    "float32": lambda numbers, texts: _plain("float32", lambda row: _vectors(row, numbers), nameless=True),
}
