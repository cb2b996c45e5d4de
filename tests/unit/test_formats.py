"""Every format gives the same matrix, the same identities and the same reasons as JSON."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from formats import avro_schema, avro_writer, batch, stream, vector
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import compute as pc

from benchmarks.speed.http_registry import http_registry
from stream_detector.config import Config, RecordConfig, load_config
from stream_detector.errors import ConfigError, SchemaRegistryError
from stream_detector.features import Feature, FeatureSchema, Kind, encode
from stream_detector.fitting.profiling import learn
from stream_detector.kafka.avro import AvroReader
from stream_detector.kafka.formats import decoder
from stream_detector.records import Decoder

NUMBERS = FeatureSchema((Feature("a", required=True), Feature("b")))
SCHEMA = FeatureSchema(
    (Feature("a", required=True), Feature("b"), Feature("k", Kind.CATEGORICAL, vocabulary=("x", "y")))
)
TIME = 1_700_000_000_123
ROWS = [
    {"id": "r1", "entity": "e1", "time": TIME, "features": {"a": 1.5, "b": -2.0, "k": "y"}},
    {"id": "r2", "entity": None, "time": None, "features": {"a": 3.0, "b": None, "k": "new"}},
    {"id": None, "entity": "e3", "time": TIME + 1, "features": {"a": 0.0, "b": 7.25, "k": None}},
]


@pytest.fixture(scope="module")
def avro():
    """A decoder on a mock registry, and the writer of its schema."""
    client = SchemaRegistryClient.new_client({"url": "mock://formats"})
    config = RecordConfig(format="avro", registry_url="mock://formats", max_bytes=400)
    return Decoder(config, AvroReader(config, client)), avro_writer(client, avro_schema(("a", "b"), ("k",)))


def test_all_formats_of_objects_read_alike(avro):
    """The same records as JSON, Avro and Arrow rows give one matrix and one identity each."""
    json = Decoder(RecordConfig())
    expected = json.decode([orjson.dumps(row) for row in ROWS], SCHEMA)
    reading, write = avro
    arrow = Decoder(RecordConfig(format="arrow"))
    for each, decoded in (
        (reading, reading.decode(list(map(write, ROWS)), SCHEMA)),
        (arrow, arrow.decode([batch(ROWS)], SCHEMA)),
    ):
        assert not decoded.rejected
        assert np.array_equal(decoded.features, expected.features, equal_nan=True)
        identities = [each.identity(decoded.documents[row]) for row in range(3)]
        assert identities == [json.identity(document) for document in expected.documents]


def test_vectors_read_like_json():
    """A float32 vector in schema order, NaN = missing, is the matrix's row."""
    rows = [{"a": 1.5, "b": -2.0}, {"a": 3.0}]
    decoded = Decoder(RecordConfig(format="float32")).decode([vector("ab", row) for row in rows], NUMBERS)
    expected = Decoder(RecordConfig()).decode([orjson.dumps({"features": row}) for row in rows], NUMBERS)
    assert np.array_equal(decoded.features, expected.features, equal_nan=True)
    assert len(decoded.documents) == 2


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"", "undecodable"),
        (vector("a", {"a": 1.0}), "undecodable"),
        (b"x" * 500, "too-large"),
        (vector("ab", {"a": math.inf, "b": 1.0}), "non-finite"),
        (vector("ab", {"b": 1.0}), "missing-feature"),
    ],
)
def test_a_bad_vector_is_told_apart_and_harms_no_other(value, reason):
    """A vector of another length, infinite or lacking is rejected; its neighbours are decoded."""
    good = vector("ab", {"a": 1.0, "b": 2.0})
    decoded = Decoder(RecordConfig(format="float32", max_bytes=400)).decode([good, value, good], NUMBERS)
    assert {at: why.reason for at, why in decoded.rejected.items()} == {1: reason}
    assert (decoded.kept, decoded.features.tolist()) == ([0, 2], [[1.0, 2.0], [1.0, 2.0]])


GOOD = [{"id": "g", "features": {"a": 1.0, "b": 2.0, "k": "x"}}] * 2
STRUCT = pa.array([{"a": 1.0}] * 3)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"", "undecodable"),
        (batch(GOOD)[:-60], "undecodable"),
        (b"\xff" * 64, "undecodable"),
        (b"x" * 5_000, "too-large"),
        (stream(pa.table({"features": pa.nulls(10_000)})), "too-large"),
        (stream(pa.table({"features": STRUCT.slice(0, 0)})), "no-features"),
        (batch([{"x": 1}]), "no-features"),
        (stream(pa.table({"features": [1.0, 2.0]})), "no-features"),
        (batch([{"features": {"a": 1.0}}, {"features": None}]), "no-features"),
        (batch([{"features": {"a": "fast"}}]), "wrong-type"),
        (batch([{"features": {"a": [1.0]}}]), "wrong-type"),
        (batch([{"features": {"a": 1.0, "k": 3}}]), "wrong-type"),
        (batch([{"features": {"a": 1e308}}]), "non-finite"),
        (batch([{"features": {"a": math.inf}}]), "non-finite"),
        (batch([{"features": {"a": 1.0}}, {"features": {"a": None}}]), "missing-feature"),
        (batch([{"features": {"b": 1.0}}]), "missing-feature"),
        (batch([{"features": {"a": 1.0, "k": "k" * 300}}]), "string-too-long"),
    ],
)
def test_a_bad_arrow_message_is_rejected_whole_and_harms_no_other(value, reason):
    """One row that cannot be used makes the message a dead letter; the rows of its neighbours are decoded, numbered."""
    config = RecordConfig(format="arrow", max_bytes=4_000, max_rows=1_000)
    decoded = Decoder(config).decode([batch(GOOD), value, batch(GOOD)], SCHEMA)
    assert {at: why.reason for at, why in decoded.rejected.items()} == {1: reason}
    assert (decoded.kept, decoded.rows) == ([0, 0, 2, 2], [0, 1, 0, 1])
    assert decoded.features.tolist() == [[1.0, 2.0, 0.0]] * 4


def test_arrow_reads_any_width_of_number_and_dictionary():
    """Integers, halves, doubles and dictionary-encoded text are read; flat batches with an empty `features_path`."""
    table = pa.table(
        {
            "a": pa.array([1, 2], pa.uint8()),
            "b": pa.array([0.5, None], pa.float16()),
            "k": pa.array(["y", "x"]).dictionary_encode(),
            "time": pa.array([TIME * 1_000_001, None], pa.timestamp("ns", "UTC")),
        }
    )
    each = Decoder(RecordConfig(format="arrow", features_path=""))
    decoded = each.decode([stream(table, compression="zstd")], SCHEMA)
    assert np.array_equal(decoded.features, [[1, 0.5, 1], [2, np.nan, 0]], equal_nan=True)
    assert each.identity(decoded.documents[0])[2].startswith("2023-11-14T22:")


def ticks(kind, *values):
    """A column of times by their bare numbers."""
    return pa.array(values, pa.int32() if pa.types.is_date32(kind) else pa.int64()).view(kind)


MOST, YEAR_10000, DAY = 2**63 - 1, 253_402_300_800, 86_400_000
TIMES = [
    (ticks(pa.timestamp("s"), 1_700_000_000), "2023-11-14T22:13:20.000+00:00"),
    (ticks(pa.timestamp("ns"), 1_700_000_000 * 10**9), "2023-11-14T22:13:20.000+00:00"),
    (ticks(pa.date32(), 19_675), "2023-11-14T00:00:00.000+00:00"),
    (ticks(pa.date64(), 19_675 * DAY), "2023-11-14T00:00:00.000+00:00"),
    (ticks(pa.timestamp("s"), 1).dictionary_encode(), "1970-01-01T00:00:01.000+00:00"),
    (ticks(pa.timestamp("us", "No/Where"), 10**6), "1970-01-01T00:00:01.000+00:00"),
    (pa.array([None], pa.timestamp("ns")), None),
    (ticks(pa.timestamp("s"), YEAR_10000), None),
    (ticks(pa.timestamp("s"), MOST), None),
    (ticks(pa.timestamp("s"), -MOST - 1), None),  # in milliseconds, cut to 64 bits, 1970
    (ticks(pa.timestamp("ns"), -MOST - 1), None),  # what numpy calls no time
    (ticks(pa.timestamp("ms"), -1), None),
    (ticks(pa.date64(), MOST // DAY * DAY), None),
    (ticks(pa.date32(), 2**31 - 1), None),
    (ticks(pa.duration("s"), MOST), None),
    (ticks(pa.time64("ns"), 1), None),
    (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), None),
    (pa.array([b"\xff"]), None),
    (pa.array([[1]]), None),
]


@pytest.mark.parametrize(("time", "expected"), TIMES, ids=[f"{time.type}" for time, _ in TIMES])
def test_an_arrow_row_is_read_whatever_its_time(time, expected):
    """A time that no calendar holds is no time; the row has its features and its id all the same, and can be fitted on."""
    value = batch([{"id": "r", "a": 1.0, "b": 2.0}], time=time)
    each = Decoder(RecordConfig(format="arrow", features_path=""))
    decoded = each.decode([value], NUMBERS)
    assert decoded.features.tolist() == [[1.0, 2.0]]
    assert each.identity(decoded.documents[0]) == ("r", None, expected)
    read = each.read([value])
    assert not read.rejected
    assert each.identity(read.documents[0]) == ("r", None, expected)
    assert encode(NUMBERS, read.features).matrix.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([True, False, None]),
        pa.array(["1", "0.0", "N/A"]),
        pa.array(["1", "false", None], pa.string_view()),
        pa.array([Decimal("1.0"), Decimal("0.0"), None]),
        pa.array([1.0, 0.0, None]).dictionary_encode(),
        pc.run_end_encode(pa.array([1.0, 0.0, None])),
    ],
)
def test_arrow_numbers_are_read_in_every_dress(values):
    """Booleans, text, decimals and encoded numbers serve as they did in fitting."""
    schema = FeatureSchema((Feature("a"), Feature("b")))
    each = Decoder(RecordConfig(format="arrow", features_path=""))
    message = stream(pa.table({"a": values, "b": [5.0, 6.0, 7.0]}))
    assert np.array_equal(each.decode([message], schema).features[:, 0], [1.0, 0.0, np.nan], equal_nan=True)
    learnt = learn(each.read([message]).features * 2)
    assert encode(learnt.schema, learnt.rows).matrix[:2, 0].tolist() == [1.0, 0.0]


@settings(max_examples=100)
@given(at=st.integers(0, 10_000), with_=st.binary(min_size=1, max_size=8))
@example(at=228, with_=b"\x19")  # a feature's name that is no text
@example(at=854, with_=b"\xb4\xce\x98")  # a column of fewer than no values, which ended the process
def test_a_damaged_arrow_message_never_does_harm(at, with_):
    """Whatever bytes are changed, the message gives rows or a reason."""
    whole = bytearray(batch(ROWS * 3))
    at %= len(whole)
    whole[at : at + len(with_)] = with_
    decoded = Decoder(RecordConfig(format="arrow")).decode([bytes(whole)], SCHEMA)
    read = Decoder(RecordConfig(format="arrow")).read([bytes(whole)])
    assert bool(read.rejected) != bool(read.kept)
    assert len(decoded.features) == len(decoded.kept) == len(decoded.documents)
    assert bool(decoded.rejected) != bool(decoded.kept)
    for document in decoded.documents[:2]:
        Decoder(RecordConfig(format="arrow")).identity(document)


def test_bad_avro_is_told_apart_and_harms_no_other(avro):
    """Bytes without framing, of an unknown schema, cut short, or without features are each rejected with a reason."""
    reading, write = avro
    good = write(ROWS[0])
    poison = {
        None: "tombstone",
        b"": "undecodable",
        b"{}": "undecodable",
        b"\x00\x00\x00\x03\xe7" + good[5:]: "undecodable",
        good[:9]: "undecodable",
        good + b"x" * 400: "too-large",
        write({"features": {"a": 1e308}}): "non-finite",
        write({"features": {"b": 1.0}}): "missing-feature",
    }
    values = [value for bad in poison for value in (good, bad)]
    decoded = reading.decode(values, SCHEMA)
    assert {values[at]: why.reason for at, why in decoded.rejected.items()} == poison
    assert decoded.features.tolist() == [[1.5, -2.0, 1.0]] * len(poison)


def test_a_registry_that_does_not_answer_is_no_fault_of_the_record():
    """Down or refusing, the registry ends the run with its address; an unknown schema is the record's own fault."""
    framed = b"\x00\x00\x00\x00\x01\x02"
    properties = {"max.retries": 0}
    with http_registry('"string"', refusal=401) as address:
        config = RecordConfig(format="avro", registry_url=address, registry_properties=properties)
        with pytest.raises(SchemaRegistryError, match=address):
            decoder(config).decode([framed], NUMBERS)
    with pytest.raises(SchemaRegistryError, match=address):
        decoder(config).decode([framed], NUMBERS)
    with http_registry('"string"') as address:
        reading = decoder(config.model_copy(update={"registry_url": address}))
        values = [framed + b"x", b"\x00\x00\x00\x00\x02\x02x"]
        assert [why.reason for why in reading.decode(values, NUMBERS).rejected.values()] == [
            "not-an-object",
            "undecodable",
        ]


@pytest.mark.parametrize("format_", ["json", "avro", "arrow", "float32"])
def test_records_of_every_format_can_be_fitted_on(format_, avro):
    """Each format gives features by name for a fit; bare vectors only when the features are declared."""
    row = {"features": {"a": 1.5, "b": -2.0}}
    reading, value = {
        "json": (Decoder(RecordConfig()), orjson.dumps(row)),
        "avro": (avro[0], avro[1](row)),
        "arrow": (Decoder(RecordConfig(format="arrow")), batch([row])),
        "float32": (Decoder(RecordConfig(format="float32")), vector("ab", row["features"])),
    }[format_]
    [features] = reading.read([value], NUMBERS).features
    assert {name: features[name] for name in "ab"} == row["features"]
    if format_ == "float32":
        with pytest.raises(ConfigError, match="declare"):
            reading.read([value])


def test_formats_are_configured_with_what_they_need(tmp_path):
    """Avro without a registry and vectors with categories are refused, the key named; a registry's password is not shown."""
    with pytest.raises(ValueError, match="registry_url"):
        RecordConfig(format="avro")
    with pytest.raises(ValueError, match="'k'"):
        Config(record={"format": "float32"}, features=[{"name": "k", "kind": "categorical"}])
    path = tmp_path / "c.yaml"
    path.write_text("record: {format: avro, registry_url: 'http://r', registry_user_info: [me, hunter2]}")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert "hunter2" not in str(refused.value)


UUID_5 = "00000000-0000-0000-0000-000000000005"
IDS = [
    (pa.array(["dev-1"], pa.string_view()), "dev-1"),
    (pa.array(["x" * 400], pa.string_view()), "x" * 256),
    (pa.array(["x" * 400]).dictionary_encode(), "x" * 256),
    (pc.run_end_encode(pa.array(["dev-1"])), "dev-1"),
    (pa.array([UUID(UUID_5).bytes], pa.uuid()), UUID_5),
    (pa.array([UUID(UUID_5).bytes], pa.binary(16)), UUID_5),
    (pa.array([b"dev-1"]), "dev-1"),
    (pa.array([b"dev-1"], pa.large_binary()), "dev-1"),
    (pa.array([b"dev-1"], pa.binary_view()), "dev-1"),
    (pa.array([b"\xff\0"]).dictionary_encode(), "ff00"),
    (pa.array(["é".encode() * 5000]), "é" * 256),
    (pa.array([7]), "7"),
    (pa.array([Decimal("7.50")]), "7.50"),
    (ticks(pa.timestamp("s", "UTC"), 1_700_000_000), "2023-11-14T22:13:20.000+00:00"),
    (pa.array([True]), None),
    (pa.array([[1]]), None),
    (pa.array([None], pa.uuid()), None),
]


@pytest.mark.parametrize(("ids", "expected"), IDS, ids=[f"{ids.type}" for ids, _ in IDS])
def test_an_arrow_row_is_called_by_its_id_whatever_its_type(ids, expected):
    """Views, runs, UUIDs and bytes name a row and its entity as text does; long ones are cut."""
    each = Decoder(RecordConfig(format="arrow", features_path=""))
    value = batch([{"a": 1.0, "b": 2.0}], id=ids, entity=ids)
    decoded = each.decode([value], NUMBERS)
    assert each.identity(decoded.documents[0]) == (expected, expected, None)
    assert each.identity(each.read([value]).documents[0]) == (expected, expected, None)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Zurich", "+05:30"])
def test_an_arrow_timestamp_has_its_own_unit(unit, zone):
    """Neither `record.time_unit` nor the number of its digits bears on a time that says its unit."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    value = batch([{"a": 1.0, "b": 2.0}], time=ticks(pa.timestamp(unit, zone), 1_700_000_000 * per_second))
    each = Decoder(RecordConfig(format="arrow", features_path="", time_unit="us"))
    assert each.identity(each.decode([value], NUMBERS).documents[0])[2] == "2023-11-14T22:13:20.000+00:00"


def test_string_views_are_features():
    """Text as views serves as a category and as a number, in scoring and in fitting."""
    schema = FeatureSchema((Feature("n"), Feature("k", Kind.CATEGORICAL, vocabulary=("x", "y"))))
    columns = {"n": ["1.5", None, "N/A"], "k": ["y", "new", "x"]}
    message = stream(pa.table({name: pa.array(texts, pa.string_view()) for name, texts in columns.items()}))
    each = Decoder(RecordConfig(format="arrow", features_path=""))
    decoded = each.decode([message], schema)
    assert np.array_equal(decoded.features, [[1.5, 1], [np.nan, 2], [np.nan, 0]], equal_nan=True)
    assert [row["k"] for row in each.read([message]).features] == columns["k"]


def logical(kind, logical_type, **others):
    return {"type": kind, "logicalType": logical_type, **others}


AVRO_TIME = datetime(2026, 1, 1, tzinfo=UTC)
NEW_YEAR = "2026-01-01T00:00:00.000+00:00"


@pytest.mark.parametrize(
    ("field", "kind", "value", "expected"),
    [
        ("id", logical("string", "uuid"), UUID(UUID_5), UUID_5),
        ("id", "bytes", b"dev-1", "dev-1"),
        ("id", "bytes", b"\xff\0", "ff00"),
        ("id", {"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "B"),
        ("id", logical("bytes", "decimal", precision=9, scale=2), Decimal("7.50"), "7.50"),
        ("id", "long", 2**62, str(2**62)),
        ("time", logical("long", "timestamp-millis"), AVRO_TIME, NEW_YEAR),
        ("time", logical("long", "timestamp-micros"), AVRO_TIME, NEW_YEAR),
        ("time", logical("long", "timestamp-nanos"), 1_767_225_600 * 10**9, NEW_YEAR),
        ("time", logical("long", "local-timestamp-millis"), AVRO_TIME.replace(tzinfo=None), NEW_YEAR),
        ("time", logical("long", "local-timestamp-micros"), AVRO_TIME.replace(tzinfo=None), NEW_YEAR),
        ("time", logical("int", "date"), AVRO_TIME.date(), NEW_YEAR),
        ("time", logical("int", "time-millis"), AVRO_TIME.time(), None),
    ],
)
def test_avro_identities_have_logical_types(field, kind, value, expected):
    """A UUID, bytes, a decimal name a record; timestamps and dates are its time, a time of day is none."""
    each, write = logical_avro({"name": field, "type": kind})
    message = write({field: value, "features": {"a": 1.0}})
    found = each.identity(each.decode([message], FeatureSchema((Feature("a"),))).documents[0])
    assert found[2 if field == "time" else 0] == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (logical("bytes", "decimal", precision=12, scale=3), Decimal("-1.500"), -1.5),
        (logical("fixed", "decimal", precision=12, scale=3, size=8, name="D"), Decimal("1.500"), 1.5),
        ("boolean", True, 1.0),
        ("float", 0.5, 0.5),
        (["null", "long"], 3, 3.0),
    ],
)
def test_avro_numbers_are_numbers(kind, value, expected):
    """Decimals in bytes and fixed, booleans and unions are what they stand for."""
    each, write = logical_avro(feature=kind)
    message = write({"features": {"a": value}})
    assert each.decode([message], FeatureSchema((Feature("a"),))).features.tolist() == [[expected]]


def logical_avro(*head, feature="double"):
    """A decoder on a mock registry and the writer of records with these fields and one feature."""
    client = SchemaRegistryClient.new_client({"url": "mock://logical"})
    inner = {"type": "record", "name": "F", "fields": [{"name": "a", "type": feature}]}
    schema = {"type": "record", "name": "T", "fields": [*head, {"name": "features", "type": inner}]}
    config = RecordConfig(format="avro", registry_url="mock://logical")
    return Decoder(config, AvroReader(config, client)), avro_writer(client, orjson.dumps(schema).decode())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b'{"features": {"a": 1}}', "looks like JSON: set record.format: json"),
        (b"\x02\x06abc", "names no schema: 5 bytes that begin with 0x02066162"),
        (b"\x01\0\0\0\x01abc", "names no schema"),
        (b"", "names no schema: 0 bytes"),
    ],
)
def test_what_is_no_framed_avro_is_named(avro, value, says):
    """A dead letter of an Avro topic says what the value looks like, or that it names no schema."""
    each, _ = avro
    assert says in each.decode([value], NUMBERS).rejected[0].message
