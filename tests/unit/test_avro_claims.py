"""Few bytes of Avro may claim much; they are rejected before anything is made of them."""

import io
import json
import struct

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.config import RecordConfig
from stream_detector.features import Feature, FeatureSchema
from stream_detector.kafka.avro import AvroReader
from stream_detector.records import Decoder
from stream_detector.records.avro_claims import AvroClaims

CONFIG = RecordConfig(format="avro", registry_url="mock://claims", features_path="")
SCHEMA = FeatureSchema((Feature("x"),))
NESTED = {"name": "a", "type": ["null", "T"]}
EMPTY = {"type": "record", "name": "E", "fields": []}
FLAT = {"type": "record", "name": "F", "fields": [{"name": "v", "type": "int"}, {"name": "n", "type": "null"}]}
MUTUAL = {"type": "record", "name": "M", "fields": [{"name": "t", "type": ["null", "T"]}]}


def number(value):
    """Avro's way to write a whole number."""
    sink = io.BytesIO()
    fastavro.schemaless_writer(sink, "long", value)
    return sink.getvalue()


def record(*fields):
    return {"type": "record", "name": "T", "fields": [{"name": "x", "type": "double"}, *fields]}


def holding(kind):
    return record({"name": "a", "type": kind})


X = struct.pack("<d", 1.5)
BOMBS = {
    "a type that holds itself": (record(NESTED), X + (b"\x02" + X) * 28_000 + b"\x00", "too-deep"),
    "types that hold each other": (holding(["null", MUTUAL]), X + (b"\x02\x02" + X) * 20_000 + b"\x00", "too-deep"),
    "arrays of itself": (holding({"type": "array", "items": "T"}), X + (b"\x02" + X) * 28_000, "too-deep"),
    "maps of itself": (holding({"type": "map", "values": "T"}), X + (b"\x02\x00" + X) * 24_000, "too-deep"),
    "nulls": (holding({"type": "array", "items": "null"}), X + number(2**61) + b"\0", "too-large-inflated"),
    "blocks": (holding({"type": "array", "items": "null"}), X + (number(9_000) + b"") * 40, "too-large-inflated"),
    "a block with its size": (
        holding({"type": "array", "items": "null"}),
        X + number(-(2**61)) + number(0) + b"\0",
        "too-large-inflated",
    ),
    "empty records": (holding({"type": "array", "items": EMPTY}), X + number(2**61) + b"\0", "too-large-inflated"),
    "no bytes": (
        holding({"type": "array", "items": {"type": "fixed", "name": "Z", "size": 0}}),
        X + number(2**61) + b"\0",
        "too-large-inflated",
    ),
    "arrays of nulls": (
        holding({"type": "array", "items": {"type": "array", "items": "null"}}),
        X + number(2) + number(2**60) + b"\0",
        "too-large-inflated",
    ),
    "nulls of a type of that name": (
        record({"name": "e", "type": EMPTY}, {"name": "a", "type": {"type": "array", "items": "E"}}),
        X + number(2**61) + b"\0",
        "too-large-inflated",
    ),
    "a long text": (holding("string"), X + number(2**60) + b"abc", "undecodable"),
    "long bytes": (holding("bytes"), X + number(2**31) + b"abc", "undecodable"),
    "bytes before the record": (holding("bytes"), X + number(-3) + b"abc", "undecodable"),
    "many numbers": (holding({"type": "array", "items": "int"}), X + number(2**60) + b"\x02\x02", "undecodable"),
    "a long text, deep within": (
        record(NESTED, {"name": "s", "type": "string"}),
        X + b"\0" + number(2**60),
        "undecodable",
    ),
}


def reading(schema):
    """A decoder, and what stands before a value of this schema."""
    client = SchemaRegistryClient.new_client({"url": "mock://claims"})
    frame = struct.pack(">bI", 0, client.register_schema("t", Schema(json.dumps(schema), "AVRO")))
    return Decoder(CONFIG, AvroReader(CONFIG, client)), frame


def written(schema, document):
    sink = io.BytesIO()
    fastavro.schemaless_writer(sink, fastavro.parse_schema(schema), document)
    return sink.getvalue()


@pytest.mark.parametrize(("schema", "payload", "reason"), BOMBS.values(), ids=BOMBS)
def test_what_claims_much_is_a_dead_letter(schema, payload, reason):
    """Each is a record's own disposition, at once; the record behind it is read."""
    decoder, frame = reading(schema)
    assert len(payload) < CONFIG.max_bytes
    good = {"x": 2.5, "a": None} if schema == record(NESTED) else None
    values = [frame + payload, *([frame + written(schema, good)] if good else [])]
    decoded = decoder.decode(values, SCHEMA)
    assert decoded.rejected[0].reason == reason
    assert decoded.features[:, 0].tolist() == [2.5] * bool(good)


def test_a_type_may_hold_itself_within_bounds():
    """Such a record is read as any other as long as it is no deeper than is allowed."""
    schema, document = record(NESTED), {"x": 1.0, "a": None}
    decoder, frame = reading(schema)
    for depth in range(1, CONFIG.max_depth + 2):
        decoded = decoder.decode([frame + written(schema, document)], SCHEMA)
        assert ({0: "too-deep"} if depth > CONFIG.max_depth else {}) == {
            at: why.reason for at, why in decoded.rejected.items()
        }
        document = {"x": 1.0, "a": document}


@pytest.mark.parametrize(
    "kind",
    [
        "null",
        ["null", "string"],
        {"type": "array", "items": ["null", "double"]},
        {"type": "map", "values": {"type": "array", "items": "long"}},
        {"type": "array", "items": {"type": "fixed", "name": "Z", "size": 2}},
    ],
)
def test_usual_schemas_cost_nothing(kind):
    """Where a value takes a byte at least, the bytes are bound enough, and are not read twice."""
    assert AvroClaims(fastavro.parse_schema(holding(kind))).are_bounded


def test_what_takes_no_bytes_beside_what_does_is_counted_as_well():
    """A record with nulls, in an array, is more than its bytes."""
    assert not AvroClaims(fastavro.parse_schema(holding({"type": "array", "items": FLAT}))).are_bounded


KINDS = st.recursive(
    st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"]),
    lambda inner: st.one_of(
        inner.map(lambda kind: {"type": "array", "items": kind}),
        inner.map(lambda kind: {"type": "map", "values": kind}),
        inner.filter(lambda kind: kind != "null" and not isinstance(kind, list)).map(lambda kind: ["null", kind]),
    ),
    max_leaves=4,
)


@given(KINDS)
def test_what_a_record_holds_is_never_refused(kind):
    """Whatever a writer makes, a walk over its bytes finds nothing amiss, and a bound is enough that it does not exceed."""
    from fastavro.utils import generate_one

    schema = fastavro.parse_schema(holding(kind))
    claims = AvroClaims(schema)
    claims.are_bounded = False
    payload = written(schema, generate_one(schema))
    assert claims.refusal(payload, CONFIG.model_copy(update={"max_bytes": 10_000_000})) is None
    if len(payload) > len(X):
        with pytest.raises(EOFError):
            claims.refusal(payload[:-1], CONFIG.model_copy(update={"max_bytes": 10_000_000}))
