"""Many messages that are each within the limits take little memory together, too."""

import subprocess
import sys
import textwrap

import numpy as np
import orjson
import pyarrow as pa
import pytest
from formats import stream
from messages import Stored
from small_models import numeric

from stream_detector import detector
from stream_detector.config import Config, RecordConfig
from stream_detector.records import Decoder, TooMuchAtOnce, columns
from stream_detector.records.decoding import CHUNK, CHUNK_BYTES
from stream_detector.scoring.threshold import RollingThreshold
from stream_detector.worker.judge import Judge
from stream_detector.worker.partitions import restore
from stream_detector.worker.partitions.restore import Past

ROWS = 1_000
ARROW = Config(record=RecordConfig(format="arrow", features_path=""), threshold={"window": 100, "warmup": 10})
MEBIBYTE = 2**20


def thick(rows=ROWS):
    """An Arrow message of a few hundred bytes with many rows."""
    return stream(pa.table({f"x{at}": pa.array(np.zeros(rows)) for at in range(5)}), compression="zstd")


def thin():
    return thick(1)


def log(*values):
    return [Stored(at, value) for at, value in enumerate(values)]


def judged(judge, messages):
    return judge.judge(messages, {("telemetry", 0): RollingThreshold(judge.limits)})


@pytest.mark.parametrize(("where", "bound"), [(columns, "ROOM"), (detector, "MOST_BYTES")])
def test_a_batch_of_thick_messages_is_taken_in_portions(monkeypatch, where, bound):
    """After thin messages a batch of thick ones is too much: fewer are taken at once, at once as few as fit, and all judged."""
    monkeypatch.setattr(where, bound, 200 * ROWS)  # bytes
    judge, taken = Judge(numeric(), ARROW), 0
    for _ in range(30):
        judged(judge, log(*[thin()] * min(judge.limit, 40)))
    messages = log(*[thin()] * 30, *[thick()] * 30)
    assert judge.limit > len(messages)
    refused = 0
    while taken < len(messages):
        portion = messages[taken : taken + judge.limit]
        outcome = judged(judge, portion)
        if outcome is None:
            refused += 1
        else:
            assert outcome.records == sum(ROWS if at >= 30 else 1 for at in range(taken, taken + len(portion)))
            taken += len(portion)
    assert 1 <= refused <= 8


def test_one_message_is_never_too_much(monkeypatch):
    """What is within the limits of a message is judged, however little room there is."""
    monkeypatch.setattr(columns, "ROOM", 1)
    monkeypatch.setattr(detector, "MOST_BYTES", 1)
    assert judged(Judge(numeric(), ARROW), log(thick())).records == ROWS
    with pytest.raises(TooMuchAtOnce, match="1 messages hold 1,000 rows"):
        Decoder(ARROW.record).decode([thick(), thick()], numeric().schema)


def test_what_a_threshold_was_rebuilt_from_is_kept_while_it_is_light(monkeypatch):
    """Beyond so many bytes older messages are let go, and the past is not taken for a whole one."""
    monkeypatch.setattr(restore, "KEPT_BYTES", 10)
    noted, pieces = restore._Pieces(), [log(b"12345"), log(b"6789"), log(b"large"), log(b"1")]
    for count, piece in enumerate(pieces, 1):
        noted.add(piece)
        assert noted.past(whole=True) == Past(tuple(pieces[1] + pieces[0] if count > 1 else piece), whole=count < 3)


def test_scores_for_a_window_need_no_more_room(monkeypatch):
    """A threshold is rebuilt from thick messages as from thin ones, and as without a bound."""
    messages = log(thin(), *[thick()] * 5, thin())
    free = Judge(numeric(), ARROW)
    expected = free.scores(messages)
    monkeypatch.setattr(columns, "ROOM", 200 * ROWS)
    judge = Judge(numeric(), ARROW)
    judge.batch_limit.passed(1, 1)
    assert judge.scores(messages) == expected
    past = Past(tuple(messages), whole=True)
    assert restore.catch_up(judge, past).threshold.current() == restore.catch_up(free, past).threshold.current()


@pytest.mark.parametrize(("size", "longest"), [(400, CHUNK), (CHUNK_BYTES // 8, 8), (2 * CHUNK_BYTES, 1)])
def test_few_large_values_are_objects_at_once(size, longest):
    """Values are parsed in stretches that cover them in order, of so many values and bytes at most."""
    values = [b"x" * size] * 1_000
    stretches = list(Decoder(RecordConfig()).stretches(values))
    assert [at for each in stretches for at in range(each.start, each.stop)] == list(range(1_000))
    assert longest // 2 < max(each.stop - each.start for each in stretches) <= longest


@pytest.mark.thorough
def test_a_batch_of_large_documents_takes_little_memory():
    """Records of nothing but brackets become objects of twenty times their size, few at a time: all would be 200 MiB."""
    program = """
        import resource
        from stream_detector.config import RecordConfig
        from stream_detector.features import Feature, FeatureSchema
        from stream_detector.records import Decoder
        value = b'{"features":{"a":1,"b":[' + b"[]," * 80_000 + b"1]}}"
        decoder = Decoder(RecordConfig())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        decoded = decoder.decode([value] * 40, FeatureSchema((Feature("a"),)))
        print(len(decoded.kept), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    kept, taken = map(int, done.stdout.split())
    assert kept == 40
    assert taken * 1024 < 100 * MEBIBYTE


def test_stretches_do_not_change_what_is_decoded():
    """A batch of small, large and unusable values gives each its row or its reason, in its place."""
    values = [orjson.dumps({"features": {"x0": at, "pad": "p" * (at % 7) * 100_000}}) for at in range(60)]
    values[13] = b"no object"
    decoded = Decoder(RecordConfig(max_bytes=500_000)).decode(values, numeric().schema)
    assert set(decoded.rejected) == {13} | {at for at in range(60) if at % 7 >= 5}
    assert decoded.features[:, 0].tolist() == decoded.kept
    assert sorted([*decoded.kept, *decoded.rejected]) == list(range(60))
