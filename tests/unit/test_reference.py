"""The frozen reference set: read from any table, never written, and strict about what it says."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from small_models import MIXED, mixed, mixed_rows

from stream_detector.errors import DataError
from stream_detector.retraining.reference import Reference


def written(folder, suffix, rows, labels):
    """A reference file of the kind."""
    path = folder / f"reference{suffix}"
    if suffix == ".npz":
        np.savez(path, X=np.array([[row["load"], row["hour"]] for row in rows]), names=["load", "hour"], label=labels)
    elif suffix == ".parquet":
        parquet.write_table(pa.table({"load": [row["load"] for row in rows], "label": labels}), path)
    else:
        lines = [f"{row['load']},{label}" for row, label in zip(rows, labels, strict=True)]
        path.write_text("\n".join(["load,label", *lines]))
    return path


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_labelled_tables_are_read_and_left_alone(tmp_path, suffix):
    """Rows fit a model's schema, labels are kept apart, missing features are missing, the file is as before."""
    path = written(tmp_path, suffix, mixed_rows(40), [1] * 15 + [0] * 25)
    before = path.read_bytes()
    reference = Reference.load(path)
    matrix = reference.matrix(mixed().schema)

    assert matrix.shape == (40, len(MIXED.features))
    assert reference.anomalous.tolist() == [True] * 15 + [False] * 25
    assert np.isnan(matrix[:, 1]).all()
    assert matrix[0, 0] == pytest.approx(mixed_rows(40)[0]["load"])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([1] * 5 + [0] * 35, "5 anomalies and 35 normal records"),
        ([2] * 20 + [0] * 20, "must hold 1"),
        (["yes"] * 20 + ["no"] * 20, "no column 'label' of numbers"),
    ],
)
def test_labels_that_say_nothing_are_refused(tmp_path, labels, says):
    """Too few of a kind, other values, no numbers: one line that names the file."""
    with pytest.raises(DataError, match=says):
        Reference.load(written(tmp_path, ".csv", mixed_rows(40), labels))


def test_a_missing_file_and_other_columns_are_named(tmp_path):
    """The path, or the feature, is in the message."""
    with pytest.raises(DataError, match=r"absent\.csv"):
        Reference.load(tmp_path / "absent.csv")
    text = Reference([{"load": "high"}] * 2, np.array([True, False]), "digest")
    with pytest.raises(DataError, match="row 1: feature 'load'"):
        text.matrix(MIXED)
