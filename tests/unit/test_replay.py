"""Replay turns a table's rows into telemetry records, and says what is wrong with a file."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from producers.replay import Selection, main, messages
from stream_detector.config import RecordConfig
from stream_detector.errors import DataError
from stream_detector.features import Feature, FeatureSchema
from stream_detector.records import Decoder, identity, telemetry_to_json
from stream_detector.tables.reading import open_table

CSV = "cpu,proto,when,host,label\n1.5,tcp,2026-01-01T00:00:00Z,web,0\n,udp,,db,1\n3,,2026-01-01T00:02:00Z,web,0\n"
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=8)


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


EVERYTHING = Selection()


def rows(path):
    return open_table(path).rows


def records(table, selection=EVERYTHING, **record) -> list[dict]:
    return [json.loads(value) for _, value in messages(table, selection, RecordConfig(**record))]


def test_a_row_becomes_a_record_with_its_row_number(table):
    """Numbers are numbers, text stays text, empty cells are left out, the id is the row number."""
    got = records(rows(table))

    assert [record["id"] for record in got] == ["0", "1", "2"]
    assert got[0]["features"] == {
        "cpu": 1.5,
        "proto": "tcp",
        "when": "2026-01-01T00:00:00Z",
        "host": "web",
        "label": 0.0,
    }
    assert got[1]["features"] == {"proto": "udp", "host": "db", "label": 1.0}


def test_the_label_can_be_withheld_and_columns_chosen(table):
    """Dropped columns reach no record; chosen ones come alone."""
    dropped = records(rows(table), Selection(drop=frozenset({"label"})))
    chosen = records(rows(table), Selection(columns=("cpu", "label"), drop=frozenset({"label"})))

    assert not any("label" in record["features"] for record in dropped)
    assert [{"cpu"}, set(), {"cpu"}] == [set(record["features"]) for record in chosen]


def test_entity_and_time_columns_are_not_features(table):
    """The entity is also the key, so that its records stay in one partition, in order."""
    sent = list(messages(rows(table), Selection(entity="host", time="when"), RecordConfig()))
    first = json.loads(sent[0][1])

    assert [key for key, _ in sent] == [b"web", b"db", b"web"]
    assert (first["entity"], first["time"]) == ("web", "2026-01-01T00:00:00Z")
    assert {"cpu", "proto", "label"} == set(first["features"])


def test_a_record_of_the_simulator_passes_unchanged(tmp_path):
    """JSON lines that are telemetry records already keep their id, time, entity and features."""
    record = {"id": "a-7", "time": "2026-01-01T00:00:00Z", "entity": "a", "features": {"x": 1.0, "s": "ok"}}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")

    assert [record] == records(rows(path))


@pytest.mark.parametrize(
    ("layout", "sent"),
    [
        ({}, {"id": "r1", "time": 7, "entity": "web", "features": {"cpu": 1.5}}),
        ({"features_path": ""}, {"id": "r1", "time": 7, "entity": "web", "cpu": 1.5}),
        ({"features_path": "data.now"}, {"id": "r1", "time": 7, "entity": "web", "data": {"now": {"cpu": 1.5}}}),
    ],
)
def test_records_are_laid_out_as_the_worker_reads_them(layout, sent):
    """`record.*` says where a row has its parts, and where they go: what is sent is read back."""
    row = {"id": "r1", "time": 7, "entity": "web", "cpu": 1.5, "spare": None}
    assert records([row], **layout) == [sent]
    config = RecordConfig(**layout)
    decoded = Decoder(config).decode([json.dumps(sent).encode()], FeatureSchema((Feature("cpu"),)))
    assert decoded.features.tolist() == [[1.5]]
    assert identity(decoded.documents[0], config)[:2] == ("r1", "web")


def test_other_names_serve_as_well():
    """A dotted path is made on the way out, and read from an object on the way in."""
    paths = {"id_path": "meta.key", "entity_path": "meta.host", "features_path": "fields"}
    assert records([{"meta": {"key": 3, "host": "h"}, "fields": {"a": 1}}], **paths) == [
        {"meta": {"key": "3", "host": "h"}, "fields": {"a": 1}}
    ]


def test_who_a_record_is_goes_before_a_feature_of_that_name():
    """In a flat record the id stands where `record.id_path` says, whatever the features are called."""
    value = telemetry_to_json("r1", None, None, {"id": 7, "cpu": 1.5}, RecordConfig(features_path=""))
    assert json.loads(value) == {"id": "r1", "cpu": 1.5}


def test_what_parquet_holds_is_sent(tmp_path):
    """Times, booleans and decimals of a Parquet file come out as JSON that the worker reads."""
    when = datetime(2026, 1, 1, tzinfo=UTC)
    parquet.write_table(pa.table({"time": [when], "on": [True], "price": [Decimal("1.50")]}), tmp_path / "t.parquet")
    assert records(rows(tmp_path / "t.parquet")) == [
        {"id": "0", "time": "2026-01-01T00:00:00+00:00", "features": {"on": True, "price": 1.5}}
    ]


def test_another_format_is_refused(tmp_path, table, capsys):
    """This program writes JSON; a configuration that reads vectors is named, not fed what it cannot read."""
    config = tmp_path / "c.yaml"
    config.write_text("record: {format: float32}")
    assert main([str(table), "-c", str(config), "--out", "-"]) == 2
    assert "record.format: float32" in capsys.readouterr().err


@given(
    st.lists(
        st.dictionaries(
            NAMES.filter(lambda name: name not in {"features", "id", "time", "entity"}),
            st.none() | NAMES | st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=5,
    )
)
def test_no_value_is_lost_or_changed(table):
    """Every present value of every row arrives as it was, in order."""
    got = records(iter(table))

    assert [{name: value for name, value in row.items() if value is not None} for row in table] == [
        record["features"] for record in got
    ]
    assert [str(number) for number in range(len(table))] == [record["id"] for record in got]


def test_a_missing_file_or_column_is_named(tmp_path, table):
    """A path or column that is not there is named, with what there is."""
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        rows(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match=r"'disk'.*cpu, proto"):
        records(rows(table), Selection(columns=("disk",)))
    with pytest.raises(DataError, match=r"'tenant'.*cpu, proto"):
        records(rows(table), Selection(entity="tenant"))


def test_what_json_cannot_hold_names_the_row():
    """An integer beyond 64 bits is refused with its row, not sent wrong."""
    with pytest.raises(DataError, match="row 1"):
        records(iter([{"a": 1}, {"a": 10**30}]))


def test_the_program_writes_the_chosen_rows(tmp_path, table):
    """`--drop` and `--limit` reach the file; the exit code is 0."""
    out = tmp_path / "out.jsonl"

    assert main([str(table), "--drop", "label,when", "--limit", "2", "--out", str(out)]) == 0
    assert [{"cpu", "proto", "host"}, {"proto", "host"}] == [
        set(json.loads(line)["features"]) for line in out.read_bytes().splitlines()
    ]


def test_the_rate_holds_records_back(tmp_path, table):
    """At a rate of r, the n-th record goes out no earlier than n / r seconds after the first."""
    import time

    start = time.monotonic()

    assert main([str(table), "--rate", "10", "--out", str(tmp_path / "out.jsonl")]) == 0
    assert time.monotonic() - start >= 0.2
