"""Memory is bounded before it is taken: what an Arrow message claims to hold is known before anything is inflated."""

import struct
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest
from formats import batch, stream
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.config import RecordConfig
from stream_detector.features import Feature, FeatureSchema, Kind
from stream_detector.records import Decoder
from stream_detector.records.claims import claims

MEBIBYTE = 2**20
NUMBERS = FeatureSchema((Feature("a"),))
CODES = FeatureSchema((Feature("a", Kind.CATEGORICAL, vocabulary=("x",)),))
CONFIG = RecordConfig(format="arrow", features_path="")
LONG = "x" * (2 * MEBIBYTE)
LONGER = 40 * LONG


def viewed(text, rows):
    """A column of views, all of the same text."""
    view = struct.pack("<i4sii", len(text), text[:4].encode(), 0, 0)
    return pa.Array.from_buffers(pa.string_view(), rows, [None, pa.py_buffer(view * rows), pa.py_buffer(text.encode())])


def inflated(table):
    """Bytes of a table's buffers as Arrow itself counts them."""
    return table.get_total_buffer_size()


def bomb(column, codec="zstd"):
    return stream(pa.table({"a": column}), compression=codec)


def shared(values, rows=60_000):
    """A dictionary column whose rows all have one entry."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), values)


BOMBS = {
    "numbers": lambda: bomb(pa.array(np.zeros(10_000_000))),
    "lz4": lambda: bomb(pa.array(np.zeros(10_000_000)), "lz4"),
    "wide rows": lambda: bomb(pa.array([LONGER])),
    "a list": lambda: bomb(pa.array([np.zeros(10_000_000)])),
    "a struct": lambda: bomb(pa.array([{"in": {"deep": LONGER}}])),
    "a dictionary": lambda: bomb(shared(pa.array([LONGER]))),
    "nulls in a list": lambda: bomb(pa.ListArray.from_arrays([0, 2**31 - 1], pa.nulls(2**31 - 1))),
    "nulls in a fixed list": lambda: bomb(pa.FixedSizeListArray.from_arrays(pa.nulls(2**31 - 2), 2**30 - 1)),
    "views": lambda: bomb(viewed(LONG, 60_000)),
    "one run": lambda: bomb(pa.RunEndEncodedArray.from_arrays(pa.array([2**31 - 1]), pa.array([1.0]))),
}
SPREAD = {  # within the budget, until each row gets a copy of its own
    "a dictionary": lambda: bomb(shared(pa.array([LONG]))),
    "a dictionary of lists": lambda: bomb(shared(pa.array([[1.0] * 100_000]))),
    "one run": lambda: bomb(pa.RunEndEncodedArray.from_arrays(pa.array([60_000]), pa.array([LONG]))),
    "a view": lambda: bomb(viewed("y" * 2_000, 5_000)),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_what_is_too_large_when_inflated_is_a_dead_letter(make):
    """A message that would not fit is rejected with a reason of its own, and read by nobody."""
    config = CONFIG.model_copy(update={"max_bytes": 104_857_600, "max_inflated_bytes": 48 * MEBIBYTE})
    for schema in (NUMBERS, CODES):
        decoded = Decoder(config).decode([make()], schema)
        assert decoded.rejected[0].reason in {"too-large-inflated", "too-large"}
    assert Decoder(config).read([make()]).rejected[0].reason in {"too-large-inflated", "too-large"}


@pytest.mark.parametrize("name", ["wide rows", "spread"])
def test_small_messages_take_little_memory(name, tmp_path):
    """A process that may hardly take more than it has reads bombs of a few kB, again and again."""
    bombs = {**BOMBS, "spread": SPREAD["a dictionary"]}
    path = tmp_path / "message"
    path.write_bytes(bombs[name]())
    program = """
        import resource, sys
        from pathlib import Path
        from stream_detector.config import RecordConfig
        from stream_detector.features import Feature, FeatureSchema, Kind
        from stream_detector.records import Decoder
        decoder = Decoder(RecordConfig(format="arrow", features_path=""))
        schema = FeatureSchema((Feature("a", Kind.CATEGORICAL, vocabulary=("x",)),))
        value = Path(sys.argv[1]).read_bytes()
        assert len(value) < 262_144, len(value)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(3):
            decoded = decoder.decode([value] * 5, schema)
            assert len(decoded.rejected) == 5
            assert len(decoder.read([value] * 5).rejected) == 5
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * 1024 < 250 * MEBIBYTE


@pytest.mark.parametrize("make", SPREAD.values(), ids=SPREAD)
def test_what_rows_share_is_not_copied_for_each(make):
    """Long texts of dictionaries, runs and views, harmless as they are, are too long for a feature."""
    for schema in (NUMBERS, CODES):
        assert Decoder(CONFIG).decode([make()], schema).rejected[0].reason == "string-too-long"
    assert Decoder(CONFIG).read([make()]).rejected[0].reason == "string-too-long"


@given(
    rows=st.integers(1, 50),
    codec=st.sampled_from(["zstd", "lz4", None]),
    nested=st.booleans(),
)
def test_claims_are_what_reading_takes(rows, codec, nested):
    """Rows and bytes are those that Arrow itself counts, compressed or not."""
    columns = {"a": pa.array(np.arange(rows, dtype=float)), "d": pa.array(["x", "y"] * rows).dictionary_encode()[:rows]}
    if nested:
        columns["l"] = pa.array([[{"s": "text"}] * at for at in range(rows)])
    value = stream(pa.table(columns), compression=codec)
    read = pa.ipc.open_stream(value).read_all()
    found = claims(value)
    assert found.rows == rows
    assert inflated(read) <= found.bytes + 64 * 10
    assert found.bytes <= inflated(read) + 64 * 30


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_no_bytes_do_harm(noise, at, with_):
    """Damaged or random, a message is decoded or rejected."""
    whole = bytearray(batch([{"a": 1.0}]))
    whole[at % len(whole)] = with_
    for value in (noise, bytes(whole)):
        decoded = Decoder(CONFIG).decode([value], NUMBERS)
        assert len(decoded.kept) + len(decoded.rejected) == 1


def test_records_are_counted_before_they_are_read():
    """A message counts as the rows that it claims; one that is no stream, empty, or claims too many counts as one."""
    counted = Decoder(CONFIG).count
    rows = [{"a": 1.0}] * 30
    assert counted(batch(rows)) == 30
    assert [counted(value) for value in (None, b"", b"no stream", batch(rows)[:40])] == [1] * 4
    assert counted(bomb(pa.array(np.zeros(10_000_000)))) == 1
    assert Decoder(RecordConfig()).count(b"{}") == 1


@given(st.binary(max_size=400), st.integers(0, 400))
def test_a_count_is_never_refused(noise, at):
    """Whatever is written over a message, it counts as one record at least, and as no more than are allowed."""
    message = batch([{"a": 1.0}] * 30)
    assert 1 <= Decoder(CONFIG).count(message[:at] + noise + message[at + len(noise) :]) <= CONFIG.max_rows
