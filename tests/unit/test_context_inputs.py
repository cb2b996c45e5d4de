"""Entities and times are taken in every form that callers and records have them in."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.context.inputs import entities, event_times
from stream_detector.records.event_times import NO_TIME, nanoseconds

try:
    import polars as pl
except ImportError:  # it is no dependency; where it is, it is tried
    pl = None

NOON = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
NS = 1_769_860_800_250_000_000
LATER = NS + 10**9


POLARS = pytest.mark.skipif(pl is None, reason="polars is no dependency")


def made(given):
    """What a parameter holds; columns of polars are made where it is there."""
    return given() if callable(given) else given


def text(moment):
    return moment.isoformat().replace("+00:00", "Z")


PAIR = [NOON, NOON + timedelta(seconds=1)]
NAIVE = [each.replace(tzinfo=None) for each in PAIR]
BERLIN = [each.astimezone(timezone(timedelta(hours=1))) for each in PAIR]


@pytest.mark.parametrize(
    "given",
    [
        PAIR,
        NAIVE,
        BERLIN,
        [text(each) for each in PAIR],
        [each.isoformat() for each in BERLIN],
        np.array([text(each) for each in PAIR]),
        np.array(NAIVE, "datetime64[ns]"),
        np.array(NAIVE, "datetime64[ms]"),
        [NS // 10**6, LATER // 10**6],
        [NS // 10**3, LATER // 10**3],
        [NS, LATER],
        np.array([NS, LATER]) / 1e9,
        np.array([NS // 10**6, LATER // 10**6]),
        pd.Series(NAIVE),
        pd.Series(PAIR),
        pd.Series([NS // 10**6, LATER // 10**6]),
        pd.DatetimeIndex(PAIR),
        pytest.param(lambda: pl.Series(NAIVE), marks=POLARS),
        pytest.param(lambda: pl.Series(PAIR), marks=POLARS),
        pytest.param(lambda: pl.Series([text(each) for each in PAIR]), marks=POLARS),
        pa.array(NAIVE),
        pa.array(PAIR),
        pa.chunked_array([[NS // 10**6], [LATER // 10**6]]),
        pa.array([text(each) for each in PAIR]),
    ],
    ids=lambda given: f"{type(given).__module__.split('.')[0]}-{type(given).__name__}",
)
def test_times_of_every_kind_are_the_same(given):
    """Datetimes with and without a zone, text, numbers in s, ms, us and ns, in lists, arrays and columns of frames."""
    assert event_times(made(given), 2).tolist() == [NS, LATER]


@pytest.mark.parametrize(
    "given",
    [
        [None, float("nan"), "", "noon", True, -5, 1e300, {}],
        np.array([None, np.nan, "x", "", -1.0, np.inf, "2026-13-01T00:00:00Z", "9999-12-31T23:59:59Z"], object),
        np.full(8, "NaT", "datetime64[s]"),
        np.full(8, "9999-01-01", "datetime64[s]"),
        pd.Series([None] * 8),
        pd.Series([pd.NaT] * 8),
        pd.Series([pd.NA] * 8, dtype="Int64"),
        pytest.param(lambda: pl.Series([None] * 8, dtype=pl.Datetime), marks=POLARS),
        pa.nulls(8),
        pa.nulls(8, pa.timestamp("ms")),
        ["9999-12-31T23:59:59Z"] * 8,
        ["0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", *["1600-01-01T00:00:00Z"] * 6],
        [datetime(9999, 1, 1, tzinfo=UTC)] * 8,
    ],
    ids=lambda given: f"{type(given).__module__.split('.')[0]}-{type(given).__name__}",
)
def test_what_is_no_time_is_none(given):
    """Nothing, no number, other text, and what lies centuries from now: no error, and no time."""
    assert event_times(made(given), 8).tolist() == [NO_TIME] * 8


@pytest.mark.parametrize(
    "given",
    [
        ["a", "7", None, None],
        ["a", 7, None, float("nan")],
        np.array(["a", 7, None, np.nan], object),
        pd.Series(["a", "7", None, np.nan]),
        pd.Series(["a", "7", pd.NA, pd.NA], dtype="string"),
        pytest.param(lambda: pl.Series(["a", "7", None, None]), marks=POLARS),
        pa.array(["a", "7", None, None]),
        ("a", "7", None, True),
    ],
    ids=lambda given: f"{type(given).__module__.split('.')[0]}-{type(given).__name__}",
)
def test_entities_of_every_kind_are_text_or_nobody(given):
    """Text, numbers as text, and nobody for what is missing, in lists, arrays and columns of frames."""
    assert entities(made(given), 4) == ["a", "7", None, None]


def test_whole_numbers_name_an_entity_the_same_whatever_holds_them():
    """Integers of any library are their digits."""
    for numbers in (
        [1, 2],
        np.array([1, 2]),
        np.array([1, 2], object),
        pd.Series([1, 2]),
        pa.array([1, 2]),
        range(1, 3),
    ):
        assert entities(numbers, 2) == ["1", "2"]


@st.composite
def near_rfc_3339(draw):
    """Times of all centuries in RFC 3339, and what is nearly that."""
    moment = draw(st.datetimes())
    fraction = draw(st.sampled_from(["", ".5", ".25", ".123456", ".123456789", ".", ",5", ".1234567"]))
    second = draw(st.sampled_from([f"{moment:%S}", "60", "61"])) if draw(st.integers(0, 9)) == 0 else f"{moment:%S}"
    zone = draw(st.sampled_from(["Z", "Z", "Z", "z", "+00:00", "-05:30", "+0100", "", " Z", "ZZ"]))
    joint = draw(st.sampled_from(["T", "T", "T", "t", " "]))
    year = draw(st.sampled_from([f"{moment.year:04}", f"{moment.year:04}", "2026", "0000", " 026", "+026"]))
    found = f"{year}-{moment:%m-%d}{joint}{moment:%H:%M}:{second}{fraction}{zone}"
    at = draw(st.integers(0, len(found) - 1))
    return found if draw(st.integers(0, 4)) else found[:at] + draw(st.characters()) + found[at + 1 :]


@given(st.lists(near_rfc_3339(), min_size=1, max_size=6))
@settings(max_examples=600, deadline=None)
def test_text_read_together_is_as_text_read_alone(texts):
    """A record's time depends on no other record: beside one that is no plain text, all are read one by one."""
    together = nanoseconds(texts).tolist()
    assert together == [nanoseconds([each])[0] for each in texts]
    assert [*together, NO_TIME] == nanoseconds([*texts, None]).tolist()


@given(
    st.lists(st.integers(-5, 2**64) | st.integers(10**9, 2 * 10**9).map(lambda s: s * 10**6), min_size=1, max_size=5),
    st.sampled_from(["auto", "s", "ms", "us", "ns"]),
)
@settings(max_examples=600, deadline=None)
def test_numbers_read_together_are_as_numbers_read_alone(numbers, unit):
    """Whatever their unit and size, and whether it is guessed."""
    together = nanoseconds(numbers, unit).tolist()
    assert together == [nanoseconds([each, None], unit)[0] for each in numbers]
