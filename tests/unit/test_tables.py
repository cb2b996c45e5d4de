"""Tables on disk: what is read, and what is refused with which words."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from stream_detector.errors import DataError
from stream_detector.tables import read_table


def test_csv_columns_are_numbers_or_text(tmp_path):
    """A column of numbers is numeric, any other text; empty cells are missing; labels are left out."""
    path = tmp_path / "t.csv"
    path.write_text("a,b,label\n1,x,0\n,7,1\n2.5,,0\n")
    assert read_table(path) == [{"a": 1.0, "b": "x"}, {"a": None, "b": "7"}, {"a": 2.5, "b": None}]


def test_parquet_and_csv_read_alike(tmp_path):
    """The same table in either format gives the same rows."""
    (tmp_path / "t.csv").write_text("a,b\n1,x\n,y\n")
    parquet.write_table(pa.table({"a": [1.0, None], "b": ["x", "y"]}), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet") == read_table(tmp_path / "t.csv")


def test_npz_is_a_matrix_or_named_rows(tmp_path):
    """Without names a float32 matrix, with names rows."""
    np.savez(tmp_path / "m.npz", X=np.array([[1, 2]]), y=np.array([1]))
    np.savez(tmp_path / "n.npz", X=np.array([[1.0, np.nan]]), names=np.array(["a", "b"]))
    assert read_table(tmp_path / "m.npz").tolist() == [[1, 2]]
    assert read_table(tmp_path / "n.npz") == [{"a": 1.0, "b": None}]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"", "no rows"),
        ("t.csv", b"a,b\n", "no rows"),
        ("t.csv", b"a,b\n1\n", "line 2"),
        ("t.csv", b"a,b\n1,2,3\n", "line 2"),
        ("t.csv", b"a\n\xff\n", "not a CSV file"),
        ("t.npz", b"not a zip", "no matrix"),
        ("t.parquet", b"PAR?", "not a Parquet file"),
        ("t.pkl", b"", "cannot read '.pkl'"),
    ],
)
def test_broken_tables_are_named_with_their_fault(tmp_path, name, content, says):
    """A file that cannot be used is a DataError with its path and what is wrong."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_table(path)
    assert name in str(caught.value)


def test_pickled_arrays_are_refused(tmp_path):
    """An .npz that would need unpickling is never loaded."""
    np.savez(tmp_path / "p.npz", X=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="no matrix"):
        read_table(tmp_path / "p.npz")
