"""Records in the forms that Python programs hold them in are read alike, or refused in one clear line."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from stream_detector.errors import DataError
from stream_detector.features import Feature, FeatureSchema, Kind, encode
from stream_detector.fitting.profiling import learn
from stream_detector.model import as_matrix
from stream_detector.tables.frames import as_numbers, as_rows

SCHEMA = FeatureSchema((Feature("a"), Feature("b"), Feature("k", Kind.CATEGORICAL, vocabulary=("x", "y"))))
EXPECTED = [[1.5, 2.0, 0.0], [np.nan, 3.0, 1.0]]

try:
    import polars as pl
except ImportError:  # it is no dependency; where it is, it is tried
    pl = None


def frame(**columns):
    return pd.DataFrame({"k": ["x", "y"], "b": [2, 3], "a": [1.5, np.nan]} | columns)


def structured():
    return np.array([("x", 2, 1.5), ("y", 3, np.nan)], dtype=[("k", "U1"), ("b", "i4"), ("a", "f8")])


FRAMES = {
    "pandas": frame(),
    "reordered": frame()[["b", "a", "k"]],
    "nullable": frame(
        a=pd.array([1.5, None], "Float64"), b=pd.array([2, 3], "Int64"), k=pd.array(["x", "y"], "string")
    ),
    "categorical": frame(k=pd.Categorical(["x", "y"])),
    "in text": frame(a=["1.5", "N/A"]),
    "decimals": frame(a=[Decimal("1.5"), None], b=[Decimal(2), Decimal(3)]),
    "not a time": frame(a=[1.5, pd.NaT]),
    "arrow-backed": frame().convert_dtypes(dtype_backend="pyarrow"),
    "arrow": pa.Table.from_pandas(frame(), preserve_index=False),
    "record batch": pa.RecordBatch.from_pandas(frame(), preserve_index=False),
    "mappings": [{"a": np.float32(1.5), "b": np.int64(2), "k": np.str_("x")}, {"a": pd.NA, "b": Decimal(3), "k": "y"}],
    "structured": structured(),
    "records": structured().view(np.recarray),
}
if pl is not None:
    FRAMES["polars"] = pl.from_pandas(frame())


@pytest.mark.parametrize("name", FRAMES)
def test_columns_are_taken_by_name(name):
    """Whatever the order of its columns and the types of its values, a frame gives the matrix of the schema."""
    assert np.array_equal(as_matrix(FRAMES[name], SCHEMA), EXPECTED, equal_nan=True)


@pytest.mark.parametrize("name", FRAMES)
def test_fitting_reads_a_frame_as_scoring_does(name):
    """What is learnt of a frame's columns is learnt of their values, whatever holds them."""
    rows = list(as_rows(FRAMES[name])) * 50
    learnt = learn(rows)
    assert {feature.name: feature.kind.value for feature in learnt.schema.features} == {
        "a": "numeric",
        "b": "numeric",
        "k": "categorical",
    }
    assert not encode(learnt.schema, learnt.rows).rejected


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([[1.5, 2.0], [np.nan, 3.0]]),
        np.ma.masked_array([[1.5, 2.0], [7.0, 3.0]], mask=[[False, False], [True, False]]),
        np.array([[1.5, 2], [None, 3]], dtype=object),
        [[1.5, 2], [None, Decimal(3)]],
        [[1.5, np.float16(2)], [pd.NA, True + 2]],
        torch.tensor([[1.5, 2.0], [torch.nan, 3.0]]),
        np.asfortranarray(np.array([[1.5, 2.0], [np.nan, 3.0]], dtype=np.longdouble)),
    ],
)
def test_a_matrix_is_a_matrix_in_every_dress(matrix):
    """Masked, missing and boxed values, and other libraries' arrays, are numbers and NaN."""
    assert np.array_equal(as_numbers(matrix), [[1.5, 2.0], [np.nan, 3.0]], equal_nan=True)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ({"a": [1.0]}, "records are one dict"),
        ("abc", "records are one str"),
        (None, r"shape \[\]"),
        (7, r"shape \[\]"),
        ([1.0, 2.0], r"shape \[2\]"),
        ([[1.0], [1.0, 2.0]], "no matrix of numbers"),
        ([["a", "b"]], "no matrix of numbers"),
        ([[1.0, object()]], "it holds <object"),
        ([[1.0, "x", None]], "no matrix of numbers"),
        (np.array([["a"]], dtype=object), "it holds 'a'"),
        (np.array([[1j]]), "complex128"),
        (np.array([["2026-01-01"]], dtype="M8[D]"), "datetime64"),
        ((each for each in ()), "generator"),
        ([{"a": 1.0}, [1.0]], "record 1 is list"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are called 'a'"),
        (pd.Series([1.0]), r"shape \[1\]"),
        (torch.ones(1, 2, requires_grad=True), "no matrix of numbers"),
        ([{"a": "fast"}], "record 0: feature 'a' is str"),
    ],
)
def test_what_cannot_be_read_is_a_data_error(records, says):
    """Wrong types and shapes are named with what to give instead, never an error of another library."""
    with pytest.raises(DataError, match=says):
        as_matrix(records, FeatureSchema((Feature("a"), Feature("b"))))


def test_names_that_are_no_text_are_refused():
    """Mappings whose names are numbers are no records."""
    with pytest.raises(DataError, match="column 1 is called by no text"):
        learn([{1: 2.0}])
