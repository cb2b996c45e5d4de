"""Replay turns a table's rows into telemetry records, and says what is wrong with a file."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.replay import Selection, main, messages, rows
from stream_detector.errors import DataError

CSV = "cpu,proto,when,host,label\n1.5,tcp,2026-01-01T00:00:00Z,web,0\n,udp,,db,1\n3,,2026-01-01T00:02:00Z,web,0\n"
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=8)


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


EVERYTHING = Selection()


def records(table, selection=EVERYTHING) -> list[dict]:
    return [json.loads(value) for _, value in messages(table, selection)]


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
    sent = list(messages(rows(table), Selection(entity="host", time="when")))
    first = json.loads(sent[0][1])

    assert [key for key, _ in sent] == [b"web", b"db", b"web"]
    assert (first["entity"], first["time"]) == ("web", "2026-01-01T00:00:00Z")
    assert {"cpu", "proto", "label"} == set(first["features"])


def test_a_column_of_numbers_can_be_kept_as_text(tmp_path):
    """Codes such as ports are categories when the caller says so; leading zeros survive."""
    path = tmp_path / "codes.csv"
    path.write_text("port\n080\n443\n", encoding="utf-8")

    assert list(rows(path)) == [{"port": 80.0}, {"port": 443.0}]
    assert list(rows(path, text={"port"})) == [{"port": "080"}, {"port": "443"}]


def test_one_word_makes_a_column_text(tmp_path):
    """A column that holds a word among numbers is a category throughout, never half and half."""
    path = tmp_path / "mixed.csv"
    path.write_text("a\n1\nx\n2\n", encoding="utf-8")

    assert list(rows(path)) == [{"a": "1"}, {"a": "x"}, {"a": "2"}]


def test_a_compressed_file_without_header_line_can_be_named(tmp_path):
    """`.csv.gz` is read as it is, and `--header` gives the names."""
    path = tmp_path / "bare.csv.gz"
    path.write_bytes(gzip.compress(b"1,tcp\n2,udp\n"))

    assert list(rows(path, ["n", "p"])) == [{"n": 1.0, "p": "tcp"}, {"n": 2.0, "p": "udp"}]


def test_parquet_and_json_lines_give_the_same_records_as_csv(tmp_path, table):
    """The format of the file does not matter."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    expected = list(rows(table))
    parquet.write_table(arrow.Table.from_pylist(expected), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in expected), encoding="utf-8")

    assert records(iter(expected)) == records(rows(tmp_path / "t.parquet")) == records(rows(tmp_path / "t.jsonl"))


def test_parquet_types_json_does_not_know_are_made_plain(tmp_path):
    """Booleans and decimals become numbers; the detector would reject them otherwise."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"on": [True, None], "price": [Decimal("1.50"), None]}), tmp_path / "t.parquet")

    first, second = rows(tmp_path / "t.parquet")
    assert {name: (type(value), value) for name, value in first.items()} == {"on": (float, 1.0), "price": (float, 1.5)}
    assert second == {"on": None, "price": None}


def test_a_record_of_the_simulator_passes_unchanged(tmp_path):
    """JSON lines that are telemetry records already keep their id, time, entity and features."""
    record = {"id": "a-7", "time": "2026-01-01T00:00:00Z", "entity": "a", "features": {"x": 1.0, "s": "ok"}}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")

    assert [record] == records(rows(path))


@given(
    st.lists(
        st.dictionaries(
            NAMES.filter(lambda name: name != "features"),
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


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"a,b\n1\n", "line 2 has 1 cells, expected 2"),
        ("t.csv", b"a,a\n1,2\n", "comes twice"),
        ("t.csv", b"a\n\xff\n", "not UTF-8"),
        ("t.csv.gz", b"no gzip", "cannot be read"),
        ("t.jsonl", b'{"a": 1}\n[1]\n', "line 2 is a JSON list"),
        ("t.jsonl", b"{\n", "line 1 is not JSON"),
        ("t.parquet", b"no parquet at all", "not a Parquet file"),
        ("t.xlsx", b"", "cannot read '.xlsx'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_fault(tmp_path, name, content, says):
    """The message holds the path and what is wrong."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=says) as caught:
        list(rows(tmp_path / name))
    assert name in str(caught.value)


def test_a_missing_file_or_column_is_named(tmp_path, table):
    """A path or column that is not there is named, with what there is."""
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        list(rows(tmp_path / "nowhere.csv"))
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
