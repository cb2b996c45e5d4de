"""Records in every format."""

import json

import numpy as np
import pyarrow as pa


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
