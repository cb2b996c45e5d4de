"""Bytes in, documents or reasons out; alerts and dead letters as they cross Kafka."""

import gzip
import json
import re
from dataclasses import dataclass

import numpy as np
import orjson
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import Stored

from consumers.alert_view import view
from stream_detector.config import RecordConfig
from stream_detector.features import Feature, FeatureSchema, Rejection
from stream_detector.records import Alert, Arrivals, Contribution, DeadLetter, Decoder, alert_from_json, identity
from stream_detector.records.comparison import Comparison
from stream_detector.records.control_events import ControlEvent
from stream_detector.records.decoding import CHUNK
from stream_detector.records.feedback import Feedback, Verdict

SCHEMA = FeatureSchema((Feature("a"), Feature("b")))
CONFIG = RecordConfig(max_bytes=400, max_depth=4)
GOOD = b'{"id":"r1","features":{"a":1,"b":2.5}}'


@dataclass(frozen=True)
class Placed:
    """A message that is only a place."""

    _topic: str
    _partition: int
    _offset: int

    def topic(self):
        return self._topic

    def partition(self):
        return self._partition

    def offset(self):
        return self._offset


def decode(values, schema=SCHEMA, config=CONFIG):
    return Decoder(config).decode(values, schema)


def reasons(*values, config=CONFIG):
    return {position: r.reason for position, r in decode(list(values), SCHEMA, config).rejected.items()}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"", "undecodable"),
        (b"\xff\xfe{}", "undecodable"),
        (b'{"features":{"a":NaN,"b":1}}', "undecodable"),
        (b'{"features":{"a":1,"b":1}', "undecodable"),
        (b"[1,2]", "not-an-object"),
        (b"3", "not-an-object"),
        (b"null", "not-an-object"),
        (b'"features"', "not-an-object"),
        (b"{}", "no-features"),
        (b'{"features":[1,2]}', "no-features"),
        (b'{"features":{"a":"x","b":1}}', "wrong-type"),
        (b'{"features":{"a":1e308,"b":1}}', "non-finite"),
        (b'{"features":{"a":1,"b":2},"x":[[[[1]]]]}', "too-deep"),
        (b'{"features":{"a":1,"b":2},"pad":"' + b"x" * 400 + b'"}', "too-large"),
    ],
)
def test_every_kind_of_bad_record_is_told_apart_and_harms_no_other(value, reason):
    """A bad record is rejected with its reason; its neighbours in the batch are decoded."""
    assert reasons(GOOD, value, GOOD) == {1: reason}
    assert decode([GOOD, value, GOOD], SCHEMA, CONFIG).features.tolist() == [[1, 2.5], [1, 2.5]]


@pytest.mark.parametrize(
    "values",
    [
        [b'{"features":{"a":1,"b":[1', b'2]}},{"features":{"a":1,"b":2}}'],
        [b'{"features":{"a":1,"b":2},"x":[{}', b'{"y":1}]},{"features":{"a":1,"b":2}}'],
        [GOOD + b"," + GOOD, GOOD],
        [GOOD + b',"0",' + GOOD, GOOD],
    ],
)
def test_broken_neighbours_cannot_complete_each_other(values):
    """Values that only parse when joined are rejected, each on its own."""
    alone = {p: decode([v], SCHEMA, CONFIG).rejected.get(0) for p, v in enumerate(values)}
    assert decode(values, SCHEMA, CONFIG).rejected == {p: r for p, r in alone.items() if r}
    assert reasons(*values)[0] == "undecodable"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["features", "a", "b", "id"]), inner),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.lists(st.one_of(JSON.map(orjson.dumps), st.binary(max_size=12), st.none(), st.just(GOOD)), max_size=8))
def test_decoding_does_not_depend_on_the_batch(values):
    """Each value decodes to the same row or the same reason, alone or in any batch."""
    together = decode(values, SCHEMA, CONFIG)
    assert sorted([*together.kept, *together.rejected]) == list(range(len(values)))
    for position, value in enumerate(values):
        alone = decode([value], SCHEMA, CONFIG)
        if position in together.rejected:
            assert alone.rejected[0] == together.rejected[position]
        else:
            row = together.kept.index(position)
            assert np.array_equal(alone.features[0], together.features[row], equal_nan=True)
            assert alone.documents[0] == together.documents[row]


def test_a_batch_is_decoded_as_its_records_are_however_long_it_is():
    """Values are decoded a few at a time; rows, reasons and documents are where the whole batch has them."""
    bad = {0: None, CHUNK - 1: b"[", CHUNK: b'{"features":{"a":[]}}', CHUNK + 1: b'{"x":1}', 3 * CHUNK: b"7"}
    values = [bad.get(at, b'{"id":"r%d","features":{"a":%d,"b":1}}' % (at, at)) for at in range(3 * CHUNK + 1)]
    decoded = decode(values)
    assert decoded.rejected == {at: decode([value]).rejected[0] for at, value in bad.items()}
    assert decoded.kept == [at for at in range(len(values)) if at not in bad]
    assert decoded.features[:, 0].tolist() == decoded.kept
    assert [document["id"] for document in decoded.documents] == [f"r{at}" for at in decoded.kept]
    assert decoded.documents[2:4] == [decoded.documents[2], decoded.documents[3]]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(1, 4)), max_size=6),
    st.integers(0, 20),
    st.integers(0, 20),
    st.sampled_from((1, 2)),
)
def test_a_part_of_what_arrived_is_read_as_if_it_had_arrived_alone(stretches, first, end, step):
    """Places and offsets of a part are those of its messages; its runs follow each other without a gap."""
    messages = [Placed(*stretch[:2], at) for stretch in stretches for at in range(stretch[2])]
    part, alone = Arrivals.of(messages)[first:end:step], Arrivals.of(messages[first:end:step])
    assert list(part) == list(alone) == messages[first:end:step]
    assert part.offsets.tolist() == [message.offset() for message in part]
    assert list(part.runs) == list(alone.runs)
    assert [at for _, run in part.runs for at in range(run.start, run.stop)] == list(range(len(part)))
    assert all(
        (part[at].topic(), part[at].partition()) == place for place, run in part.runs for at in range(*run.indices(99))
    )


def test_flat_and_nested_records():
    """`features_path` reaches into an object, and the empty path reads the record itself."""
    flat = Decoder(RecordConfig(features_path="")).read([b'{"a":1,"b":2}'])
    deep = Decoder(RecordConfig(features_path="x.y")).read([b'{"x":{"y":{"a":1,"b":2}}}'])
    assert flat.features == deep.features == [{"a": 1, "b": 2}]


def test_depth_is_judged_exactly():
    """A wide record within the depth limit passes although it has many brackets."""
    wide = orjson.dumps({"features": {"a": 1, "b": 2}, "tags": [{}, {}, {}, {}, {}]})
    assert reasons(wide) == {}


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000+00:00"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05.000+00:00"),
        (1_700_000_000_123, "2023-11-14T22:13:20.123+00:00"),
        ("yesterday", None),
        (-1, None),
        (1e300, None),
        (True, None),
        (None, None),
    ],
)
def test_event_times_are_read_or_absent(time, expected):
    """RFC 3339 text and epoch milliseconds become UTC; anything else is no time, not an error."""
    assert identity({"time": time}, CONFIG)[2] == expected


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"\0\0\0\0\x07" + b'{"features": {}}', r"Confluent's wire format \(schema id 7\): set record.format: avro"),
        (gzip.compress(b"{}"), "gzip: compress by the producer's compression.type"),
        ("{}".encode("utf-16"), "UTF-16"),
        ("{}".encode("utf-16-be"), "UTF-16"),
        ("{}".encode("utf-16-le"), "UTF-16"),
        ("{}".encode("utf-32-be"), "UTF-32"),
        (b"\xff\xff\xff\xff\x10\0\0\0", "Arrow IPC stream: set record.format: arrow"),
        (b"\0\0", "not JSON: unexpected"),
        (b"", "not JSON: "),
    ],
)
def test_what_is_not_json_is_named_by_its_first_bytes(value, says):
    """A dead letter says what the value looks like and what to set; of other bytes, what the parser says."""
    (found,) = Decoder(CONFIG).read([value]).rejected.values()
    assert found.reason == "undecodable"
    assert re.search(says, found.message)


def test_a_byte_order_mark_is_read_over():
    """A record behind a mark is what it is without one, in a batch, alone, and when its alert is made."""
    bare = b'{"id": "r", "features": {"a": 1, "b": 2}}'
    each = Decoder(CONFIG)
    decoded = each.decode([bare, b"\xef\xbb\xbf" + bare], SCHEMA)
    assert decoded.features.tolist() == [[1, 2], [1, 2]]
    assert each.identity(decoded.documents[1]) == ("r", None, None)


def test_a_unit_that_is_guessed_is_told_once():
    """The first time that is a number is logged with what it is taken for; one of a set unit never is."""
    with structlog.testing.capture_logs() as logs:
        for config in (RecordConfig(), RecordConfig(time_unit="s")):
            each = Decoder(config)
            found = {each.identity({"time": 1_767_225_600 + second})[2] for second in range(3)}
            assert found == {f"2026-01-01T00:00:0{second}.000+00:00" for second in range(3)}
    assert [log["event"] for log in logs] == [
        "times at 'time' such as 1767225600 are taken as seconds, 2026-01-01T00:00:00.000+00:00; record.time_unit sets it"
    ]


HEADERS = (("h", b"1"), ("h", None))


def stored(head=HEADERS, stamp=(1, 1_700_000_000_000), kind=Stored):
    """A message that is no record."""
    return kind(42, b"\x00broken", 3, b"k", head, stamp)


def test_a_dead_letter_keeps_its_original_to_the_byte():
    """Key, value, headers and timestamp stay; Connect's error headers say where and why."""
    letter = DeadLetter.of(stored(), Rejection("undecodable", "not JSON:\n\x1b[31mred"))
    assert (letter.key, letter.value, letter.timestamp_ms) == (b"k", b"\x00broken", 1_700_000_000_000)
    assert letter.headers[:2] == (("h", b"1"), ("h", None))
    context = dict(letter.headers[2:])
    assert context["__connect.errors.topic"] == b"telemetry"
    assert context["__connect.errors.offset"] == b"42"
    assert context["__connect.errors.exception.class.name"] == b"undecodable"
    assert b"\x1b" not in context["__connect.errors.exception.message"]


FORGED = (("__connect.errors.topic", b"forged"), ("stream-detector.lost", b"forged"), ("h", b"1"))


def test_a_forged_header_cannot_pass_for_ours():
    """Who takes a name's first header, its last one, or all of them finds what we wrote; the original's has another name."""
    headers = DeadLetter.of(stored(FORGED), Rejection("undecodable", "not JSON")).headers
    assert [content for name, content in headers if name == "__connect.errors.topic"] == [b"telemetry"]
    assert headers[:3] == (
        ("stream-detector.original.__connect.errors.topic", b"forged"),
        ("stream-detector.original.stream-detector.lost", b"forged"),
        ("h", b"1"),
    )
    assert "stream-detector.lost" not in dict(headers)


@pytest.mark.parametrize(
    ("timestamp", "sent", "named"),
    [
        ((1, 1_700_000_000_000), 1_700_000_000_000, {}),
        ((1, -5), -5, {}),
        ((1, 0), 0, {"timestamp": b"0"}),  # for the client 0 is the present
        ((2, 0), 0, {"timestamp": b"0", "timestamp.type": b"LogAppendTime"}),
        ((2, 7), 7, {"timestamp.type": b"LogAppendTime"}),
        ((0, 0), 0, {}),
    ],
)
def test_a_dead_letter_keeps_the_time_of_its_original(timestamp, sent, named):
    """As its own timestamp, and in a header what that cannot say."""
    letter = DeadLetter.of(stored(stamp=timestamp), Rejection("undecodable", "not JSON"))
    prefix = "stream-detector.original."
    assert letter.timestamp_ms == sent
    assert {n.removeprefix(prefix): content for n, content in letter.headers if n.startswith(prefix)} == named


@pytest.mark.parametrize("part", ["key", "value", "headers", "timestamp"])
def test_what_cannot_be_read_is_named_in_the_dead_letter(part):
    """A record whose client fails on a part of it has a dead letter all the same, with every other part."""

    class Broken(Stored):
        pass

    def fail(_):
        raise SystemError("the client's bug")

    setattr(Broken, part, fail)
    letter, whole = (
        DeadLetter.of(each, Rejection("undecodable", "not JSON")) for each in (stored(kind=Broken), stored())
    )
    assert ("stream-detector.lost", part.encode()) in letter.headers
    others = {"key", "value", "timestamp_ms"} - {"timestamp_ms" if part == "timestamp" else part}
    assert {name: getattr(letter, name) for name in others} == {name: getattr(whole, name) for name in others}


def an_alert():
    return Alert(
        "telemetry", 3, 42, b"k", "r1", "web-1", None, "2026-01-02T03:04:05.000+00:00", "ab" * 32, 5.25, 3.5, "rolling",
        4.0, 5.5, "minor", (Contribution("a", 9.1, 6.4, 0.75, "high"), Contribution("s", "x", "y", 0.25, "unexpected")),
    )  # fmt: skip


def test_an_alert_survives_the_topic():
    """Reading an alert's JSON gives the alert back, and it is plain JSON to others."""
    alert = an_alert()
    assert alert_from_json(alert.to_json(), alert.key) == alert
    body = json.loads(alert.to_json())
    assert body["id"] == "telemetry-3-42"
    assert sum(f["contribution"] for f in body["features"]) == 1
    assert dict(alert.headers())["ce_id"] == b"telemetry-3-42"


DEEP = b"[" * 900 + b"]" * 900
FOREIGN = [b"", b"{}", b"[]", b"null", b"\xff", b'{"source":1}', b"[" * 10**5, b"1" * 5_000, b'"\\ud800"', DEEP]
VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
WRITTEN = {
    "alert": (an_alert().to_json(), alert_from_json),
    "feedback": (Feedback("t-0-1", Verdict.ANOMALY, "n", "w", "2026-01-02").to_json(), Feedback.from_json),
    "control": (
        ControlEvent("drift", "i", "t", 0, 1, "adwin", "score", "m", "2026-01-02", ("a high",)).to_json(),
        ControlEvent.from_json,
    ),
    "comparison": (Comparison("c", "d", 1, 2, 3, 1, ("t-0-1",), ()).to_json(), Comparison.from_json),
}


@pytest.mark.parametrize("value", FOREIGN)
@pytest.mark.parametrize("kind", WRITTEN)
def test_what_is_none_of_ours_is_a_value_error(kind, value):
    """A foreign record on any topic of ours is recognised, whatever it is."""
    with pytest.raises(ValueError):
        WRITTEN[kind][1](value)


@given(data=st.data(), other=VALUES | st.sampled_from([2**70, -1, 1e999, json.loads(DEEP)]))
@pytest.mark.parametrize("kind", WRITTEN)
def test_any_field_may_be_anything(kind, data, other):
    """With one value replaced it reads as a value that can be shown, stored and looked up, or is a ValueError."""
    written, read = WRITTEN[kind]
    body = json.loads(written)
    holder = data.draw(st.sampled_from([body, *(part for part in body.values() if isinstance(part, dict))]))
    holder[data.draw(st.sampled_from(sorted(holder)))] = other
    try:
        found = read(json.dumps(body).encode())
    except ValueError:
        return
    assert hash(found) == hash(read(found.to_json()))
    if kind in {"alert", "control"}:
        assert 0 <= found.partition < 2**31
        assert 0 <= found.offset < 2**63
    if kind == "alert":
        view(found)
