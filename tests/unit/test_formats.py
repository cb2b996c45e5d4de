"""Every format gives the same matrix, the same identities and the same reasons as JSON."""

import math
from decimal import Decimal

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
from stream_detector.kafka.avro import AvroReader
from stream_detector.kafka.formats import decoder
from stream_detector.profiling import learn
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
