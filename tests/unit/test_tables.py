"""Tables as people write them: what is read, and what is refused with which words."""

import bz2
import gzip
import io
import json
import lzma
import math
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather, parquet

from stream_detector.config import RecordConfig
from stream_detector.errors import DataError, WriteError
from stream_detector.tables import read_table
from stream_detector.tables.reading import open_table
from stream_detector.tables.records import features_of, is_flat, label_of
from stream_detector.tables.writing import write_batches

ROWS = [{"a": 1.5, "b": "x"}, {"a": None, "b": "y"}, {"a": -20.25, "b": None}]
CSV = "a,b\n1.5,x\n,y\n-20.25,\n"


def read(path, **options):
    return list(open_table(path, **options).rows)


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def arrow_file(path, write):
    write(pa.Table.from_pylist(ROWS), str(path))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", CSV),
        ("t.csv", "\ufeff" + CSV),
        ("t.csv", CSV.replace("\n", "\r\n")),
        ("t.csv", CSV.encode("utf-16")),
        ("t.csv", " a , b \n 1.5 , x \n , y \n -20.25 , \n"),
        ("t.csv", ",a,b\n0,1.5,x\n1,,y\n2,-20.25,\n"),  # the index that pandas writes has no name
        ("t.csv", "a,b,\n1.5,x,\n,y,\n-20.25,,\n"),
        ("t.tsv", CSV.replace(",", "\t")),
        ("t.txt", CSV.replace(",", "|")),
        ("t.csv", CSV.replace(",", ";").replace(".", ",")),
        ("t.csv.gz", gzip.compress(CSV.encode())),
        ("t.csv.bz2", bz2.compress(CSV.encode())),
        ("t.csv.xz", lzma.compress(CSV.encode())),
        ("named-otherwise", gzip.compress(CSV.encode())),
        ("t.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("t.jsonl", '{"a": 1.5, "b": "x"}\n\n{"a": null, "b": "y"}\n{"a": -20.25, "b": null}'),
        ("t.jsonl.gz", gzip.compress("\n".join(map(json.dumps, ROWS)).encode())),
        ("t.json", json.dumps(ROWS)),
        ("t.json", json.dumps(ROWS, indent=2)),
        ("t.csv", json.dumps(ROWS)),  # what the bytes are decides
    ],
)
def test_one_table_in_every_dress(file, name, content):
    """Marks, line ends, delimiters, decimal commas, unnamed columns, compression and JSON make no difference."""
    assert read(file(name, content)) == ROWS


@pytest.mark.parametrize(("name", "write"), [("t.parquet", parquet.write_table), ("t.feather", feather.write_feather)])
def test_arrow_files_give_the_same_rows(tmp_path, name, write):
    """Parquet and Feather hold the same rows, from a file and from a stream that cannot seek."""
    arrow_file(tmp_path / name, write)
    assert read(tmp_path / name) == ROWS


def test_types_that_arrow_has_become_plain(tmp_path):
    """Times of any unit, decimals, booleans, dictionaries and structs are read; none is a traceback."""
    when = datetime(2026, 1, 1, tzinfo=UTC)
    table = pa.table(
        {
            "ns": pa.array([when, None], pa.timestamp("ns", "UTC")),
            "far": pa.array([2**62, None], pa.int64()).cast(pa.timestamp("s")),
            "price": pa.array([Decimal("1.50"), None]),
            "on": [True, None],
            "kind": pa.array(["x", None]).dictionary_encode(),
            "features": [{"a": 1.0}, None],
        }
    )
    parquet.write_table(table.drop(["far"]), tmp_path / "t.parquet")
    feather.write_feather(table, str(tmp_path / "t.feather"))
    first, second = read(tmp_path / "t.feather")
    assert first.pop("far") is not None
    assert first == {"ns": when, "price": 1.5, "on": True, "kind": "x", "features": {"a": 1.0}}
    assert set(second.values()) == {None}
    assert read(tmp_path / "t.parquet")[0] == first


def test_npz_is_a_matrix_or_named_rows(tmp_path):
    """Without names a matrix, with names rows; labels of its own are kept apart."""
    np.savez(tmp_path / "m.npz", X=np.array([[1, 2]]), y=np.array([1]))
    np.savez(tmp_path / "n.npz", X=np.array([[1.0, np.nan]]), names=np.array(["a", "b"]))
    np.save(tmp_path / "x.npy", np.array([[1, 2]]))
    bare = open_table(tmp_path / "m.npz")
    assert (bare.matrix.tolist(), bare.labels.tolist(), list(bare.rows)) == ([[1, 2]], [1], [{"x0": 1, "x1": 2}])
    assert open_table(tmp_path / "x.npy").matrix.tolist() == [[1, 2]]
    assert read(tmp_path / "n.npz") == [{"a": 1.0, "b": None}]


@pytest.mark.parametrize(
    ("content", "rows", "says"),
    [
        ("1,2\n3,4\n", [{"x0": 1.0, "x1": 2.0}, {"x0": 3.0, "x1": 4.0}], "no header line"),
        ("1,tcp\n2,tcp\n", [{"x0": 1.0, "x1": "tcp"}, {"x0": 2.0, "x1": "tcp"}], "no header line"),
        ("host,1,2\nweb,3,4\n", [{"host": "web", "1": 3.0, "2": 4.0}], None),
        ("a;b\n1.234,5;2\n", [{"a": 1234.5, "b": 2.0}], "decimal commas"),
        ('a,b\n"1,234.5",2\n', [{"a": 1234.5, "b": 2.0}], None),
        ("a,b\n1,N/A\n2,7\n", [{"a": 1.0, "b": "N/A"}, {"a": 2.0, "b": "7"}], None),
        (",a\n0,1\n", [{"a": 1.0}], "left out: column 1"),
    ],
)
def test_what_a_text_leaves_open_is_found_and_said(file, content, rows, says):
    """A missing header line, decimal commas and unnamed columns are told; odd cells stay as they are written."""
    table = open_table(file("t.csv", content))
    assert list(table.rows) == rows
    assert (says in " ".join(table.remarks)) if says else not table.remarks


def test_columns_can_be_kept_as_text_and_named(file, tmp_path):
    """Codes keep their leading zeros where a category is declared, in Parquet too; names may be given."""
    assert read(file("t.csv", "port\n080\n443\n"), text={"port"}) == [{"port": "080"}, {"port": "443"}]
    assert read(file("t.csv", "1,2\n"), header=["a", "b"]) == [{"a": 1.0, "b": 2.0}]
    parquet.write_table(pa.table({"port": [80, 443]}), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", text={"port"}) == [{"port": "80"}, {"port": "443"}]


def test_standard_input_is_a_table_like_any_other(monkeypatch):
    """What comes in by a pipe is told apart by its bytes."""
    for content in (CSV.encode(), gzip.compress(json.dumps(ROWS).encode())):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert read(Path("-")) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"", "no rows"),
        ("t.csv", b"a,b\n", "no rows"),
        ("t.csv", b"a,b\n1\n", "line 2 has 1 cells, expected 2"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, expected 2: '1,2,3'"),
        ("t.csv", b"a\n\xff\n", "not UTF-8 text .byte 0xff in line 2"),
        ("t.csv", b"cpu,mem,cpu\n1,2,3\n", "'cpu' for columns 1, 3"),
        ("t.csv", b",\n1,2\n", "names no column"),
        ("t.csv.gz", gzip.compress(CSV.encode())[:-9], "cannot be read"),
        ("t.npz", b"not a zip", "not a .npz file"),
        ("t.npz", b"PK\x03\x04 not quite", "no matrix"),
        ("t.xlsx", b"PK\x03\x04 not quite", "spreadsheet"),
        ("t.parquet", b"PAR?", "not a .parquet file"),
        ("t.parquet", b"PAR1 and no more", "cannot be read"),
        ("t.pkl", b"", "cannot read '.pkl'"),
        ("t.csv", b"a\0b\n", "cannot read"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("t.jsonl", b'{"a": 1}\n[1]\n', "line 2 is a JSON list"),
        ("t.json", b"[1]", "record 1 is a JSON int"),
    ],
)
def test_broken_tables_are_named_with_their_fault(file, name, content, says):
    """A file that cannot be used is a DataError with its path, the line or cell, and what is wrong."""
    with pytest.raises(DataError, match=says) as caught:
        read(file(name, content))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("cpu mem\n1.5  2\n-3 4e2\n", [{"cpu": 1.5, "mem": 2.0}, {"cpu": -3.0, "mem": 400.0}]),
        ("  1.5   x\r\n  2.5   x\r\n", [{"x0": 1.5, "x1": "x"}, {"x0": 2.5, "x1": "x"}]),
        ("a b\n1,5 2,5\n3,5 1,5\n", [{"a": 1.5, "b": 2.5}, {"a": 3.5, "b": 1.5}]),
    ],
)
def test_blanks_separate_columns_where_nothing_else_does(file, text, rows):
    """Runs of blanks are one separator, and that is said."""
    table = open_table(file("t.txt", text))
    assert list(table.rows) == rows
    assert "columns are separated by blanks" in table.remarks


@pytest.mark.parametrize(
    "text",
    ["a;b\n1 234;2 345\n", "when,a\n2026-01-01 00:00:00,1\n", "text\nof any\nkind\n", 'q\n"1 2"\n', "a, b\n1, 2\n"],
)
def test_blanks_within_cells_separate_nothing(file, text):
    """A file with another delimiter, with quotes, or without numbers keeps its blanks."""
    table = open_table(file("t.csv", text))
    assert len(next(iter(table.rows))) == text.splitlines()[0].count(",") + text.splitlines()[0].count(";") + 1
    assert not table.remarks


def test_a_table_is_read_for_python(file):
    """`read_table` gives what `fit` takes: mappings, or a matrix where columns have no names."""
    assert read_table(file("t.csv", "\ufeffcpu,mem\n1,2\n")) == [{"cpu": 1.0, "mem": 2.0}]
    data = io.BytesIO()
    np.save(data, np.eye(2))
    assert np.array_equal(read_table(file("t.npy", data.getvalue())), np.eye(2))


def test_pickled_arrays_are_refused(tmp_path):
    """An .npz that would need unpickling is never loaded."""
    np.savez(tmp_path / "p.npz", X=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="no matrix"):
        read(tmp_path / "p.npz")


CELLS = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8"), max_size=6)


@given(st.lists(st.fixed_dictionaries({"a": CELLS, "b": CELLS}), min_size=1, max_size=8))
def test_json_lines_lose_and_change_nothing(tmp_path_factory, table):
    """Every value of every row comes back as it was written."""
    path = tmp_path_factory.mktemp("t") / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    assert read(path) == table


@pytest.mark.parametrize(
    ("row", "record", "features"),
    [
        ({"id": 1, "features": {"a": 1}}, {}, {"a": 1}),
        ({"id": 1, "a": 1}, {}, {"id": 1, "a": 1}),
        ({"data": {"now": {"a": 1}}}, {"features_path": "data.now"}, {"a": 1}),
        ({"features": {"a": 1}}, {"features_path": ""}, {"features": {"a": 1}}),
    ],
)
def test_a_row_is_a_record_as_the_configuration_says(row, record, features):
    """Features are where `record.features_path` says, or the row itself where it has no such object."""
    config = RecordConfig(**record)
    assert features_of(row, config) == features
    assert is_flat([row], config) == (features == row)


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"x": [1, 2], "label": ["normal", "attack"]}, "label"),
        ({"x": [1, 2], "y": [0, 1]}, "y"),
        ({"x": [1, 2], "Y": ["0", None]}, "Y"),
        ({"x": [1, 2], "y": [0.5, 513.7]}, None),
        ({"x": [1, 2], "y": ["left", "right"]}, None),
    ],
)
def test_a_label_is_told_from_a_coordinate(columns, label):
    """A column `label` is one, a column `y` only if it holds 0 and 1: else it is a measurement."""
    assert label_of([dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]) == label


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".npz"])
def test_results_come_back_as_they_were_written(tmp_path, suffix):
    """Every kind of column survives in every format, over several batches."""
    leading = [{"feature": "cpu", "direction": "high", "contribution": 0.75}]
    batch = {"id": ["r-1"], "anomaly": np.array([2.5], np.float32), "flagged": [True], "features": [leading]}
    path = tmp_path / f"out{suffix}"
    write_batches(path, [batch, {**batch, "anomaly": np.array([np.nan], np.float32), "features": [[]]}])
    if suffix == ".npz":
        found = {name: array.tolist() for name, array in np.load(path).items()}
        assert found["id"] == ["r-1", "r-1"]
        assert found["anomaly"][0] == 2.5
        assert math.isnan(found["anomaly"][1])
        return
    rows = read(path)
    assert [row["anomaly"] for row in rows][:1] == [2.5]
    assert rows[1]["anomaly"] is None or math.isnan(rows[1]["anomaly"])
    assert rows[0]["features"] == (leading if suffix == ".jsonl" else "cpu high 75%")
    assert rows[0]["flagged"] in {True, "true"}


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    """A folder that is not there and an unknown format are one line, before anything is read."""
    for path, says in ((tmp_path / "no" / "out.csv", "no folder"), (tmp_path / "out.xml", "cannot write '.xml'")):
        with pytest.raises((DataError, WriteError), match=says):
            write_batches(path, [])
