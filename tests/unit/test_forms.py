"""The forms that a refused message takes: what fits, what is kept, and what a refusal tells of other messages."""

import json
import time
from dataclasses import replace
from hashlib import sha256

import pytest
from confluent_kafka import KafkaError as Fault
from hypothesis import given
from hypothesis import strategies as st
from messages import Stored

from stream_detector.kafka.faults import REFUSALS, Blame, blame
from stream_detector.records import Alert, Contribution, DeadLetter, alert_from_json
from stream_detector.worker.output import topic_limits
from stream_detector.worker.output.producer import Outgoing
from stream_detector.worker.output.topic_limits import LASTS, TopicLimits, fitted, keyed, size, stamped

HOUR = 3_600_000
TOO_LARGE, TOO_LONG, WRONG_TIME, NO_KEY = map(
    Fault,
    (Fault.MSG_SIZE_TOO_LARGE, Fault.RECORD_LIST_TOO_LARGE, Fault.INVALID_TIMESTAMP, Fault.INVALID_RECORD),
)

headers = st.lists(st.tuples(st.text(max_size=40), st.none() | st.binary(max_size=3_000)), max_size=20)
parts = st.none() | st.binary(max_size=6_000)


def letter(key=None, value=b"v", headers=(), timestamp_ms=0):
    from stream_detector.features import Rejection

    stored = Stored(17, value, name=key, head=tuple(headers), stamp=(1, timestamp_ms))
    made = DeadLetter.of(stored, Rejection("undecodable", "x" * 300))
    return Outgoing("telemetry-0-17", made.key, made.value, made.headers, made.timestamp_ms, structured=False)


def alert(key=None, features=3, text="host"):
    contributions = tuple(Contribution(f"feature {at}", 1.5, text, 1 / features, "high") for at in range(features))
    made = Alert(
        *("telemetry", 0, 17, key, text, text, None, "2026-01-01T00:00:00.000+00:00", "a" * 64),
        *(5.5, 3.0, "rolling", 5.0, 2.0, "critical", contributions),
    )
    return Outgoing(made.id, key, made.to_json(), made.headers())


@given(key=parts, value=parts, headers=headers, most=st.integers(960, 30_000))
def test_a_dead_letter_fits_and_names_what_was_cut(key, value, headers, most):
    """Whatever it holds, it fits; each part is whole, or its beginning with length and digest; the reason stays."""
    whole = letter(key, value, headers)
    cut = fitted(whole, most)
    told = dict(cut.headers)
    assert size(cut) <= most
    assert told["__connect.errors.exception.class.name"] == b"undecodable"
    assert told["__connect.errors.offset"] == b"17"
    for part, original, name in ((cut.key, key, "key."), (cut.value, value, "")):
        about = f"stream-detector.truncated.{name}"
        assert part == original or original.startswith(part)
        assert (part != original) == (about + "bytes" in told)
        if part != original:
            assert told[about + "bytes"] == str(len(original)).encode()
            assert told[about + "sha256"] == sha256(original).hexdigest().encode()
    left_out = len(whole.headers) - len([each for each in whole.headers if each in cut.headers])
    assert left_out == 0 or "stream-detector.truncated.headers" in told or most < 4_000
    assert size(whole) > most or cut == whole


@given(features=st.integers(1, 300), text=st.text(max_size=256), key=parts, most=st.integers(1_200, 30_000))
def test_an_alert_that_was_cut_is_an_alert_still(features, text, key, most):
    """It fits, parses, keeps its id and scores, and the features that contribute most."""
    whole = alert(key, features, text)
    cut = fitted(whole, most)
    read, original = alert_from_json(cut.value, cut.key), alert_from_json(whole.value, key)
    assert size(cut) <= most
    assert dict(cut.headers)["ce_id"].decode() == read.id == whole.id
    assert (read.score, read.threshold, read.model_version) == (original.score, original.threshold, "a" * 64)
    assert read.contributions == original.contributions[: len(read.contributions)]
    left_out = json.loads(cut.value).get("left_out", {}).get("features", 0)
    assert len(read.contributions) + left_out == features


@pytest.mark.parametrize(
    ("message", "fault", "differs"),
    [
        (letter(timestamp_ms=int(time.time() * 1000) + 48 * HOUR), WRONG_TIME, "timestamp_ms"),
        (letter(timestamp_ms=1), WRONG_TIME, "timestamp_ms"),
        (alert(), WRONG_TIME, "timestamp_ms"),
        (alert(), NO_KEY, "key"),
        (alert(key=b"k" * 9_000), TOO_LARGE, "key"),
        (letter(value=b"v" * 9_000), TOO_LONG, "value"),
    ],
)
def test_a_refused_form_is_not_sent_again(message, fault, differs):
    """The next form differs in what was refused, and so do those of messages like it."""
    limits = TopicLimits("topic")
    assert limits.form(message) is message
    limits.learn(message, fault)
    form = limits.form(message)
    assert getattr(form, differs) != getattr(message, differs)
    like_it = replace(message, id="another")
    assert getattr(limits.form(like_it), differs) != getattr(message, differs)


@given(st.lists(st.sampled_from([TOO_LARGE, TOO_LONG, WRONG_TIME, NO_KEY]), min_size=1, max_size=30))
def test_a_ladder_has_an_end(faults):
    """However often a topic refuses, no form is sent twice for one reason, and after at most 14 tries there is none."""
    limits, message = TopicLimits("topic"), letter(b"k" * 100_000, b"v" * 100_000, timestamp_ms=1)
    seen = []
    for fault in [*faults, *[TOO_LARGE] * 12]:
        form = limits.form(message)
        if form is None:
            break
        assert (form, fault.code()) not in seen
        seen.append((form, fault.code()))
        limits.learn(form, fault)
    assert limits.form(message) is None
    assert len(seen) <= 14


def test_a_time_like_the_present_is_left_as_it_is():
    """Refusals of times far ahead and far behind say nothing of times near now."""
    limits, now = TopicLimits("topic"), int(time.time() * 1000)
    for off in (48 * HOUR, -48 * HOUR):
        limits.learn(letter(timestamp_ms=now + off), WRONG_TIME)
    near = letter(timestamp_ms=now - HOUR)
    assert limits.form(near) is near
    far = limits.form(letter(timestamp_ms=now + 60 * HOUR))
    assert dict(far.headers)["stream-detector.original.timestamp"] == str(now + 60 * HOUR).encode()


def test_a_topic_that_stamps_by_itself_gets_the_original_time_in_a_header():
    """Where the broker's time takes the place of the record's, the record's would be lost."""
    limits = TopicLimits("topic")
    limits.stamps = True
    form = limits.form(letter(timestamp_ms=1_000))
    assert (form.timestamp_ms, dict(form.headers)["stream-detector.original.timestamp"]) == (0, b"1000")
    assert limits.form(alert()) == alert()


def test_forms_leave_alone_what_needs_no_change():
    """A message without a time of its own is not stamped, one with a key gets no other."""
    assert stamped(alert()) == alert()
    assert keyed(alert(key=b"")) == alert(key=b"")
    assert keyed(alert()).key == b"telemetry-0-17"


def test_every_refusal_has_one_blame_and_the_unheard_of_may_pass():
    """What is the message's fault gets another form; nothing else does."""
    assert {code for code, who in REFUSALS.items() if who is Blame.MESSAGE} >= {
        fault.code() for fault in (TOO_LARGE, TOO_LONG, WRONG_TIME, NO_KEY)
    }
    assert blame(Fault(Fault.NOT_ENOUGH_REPLICAS)) is Blame.PASSING
    assert blame(Fault(Fault.OUT_OF_ORDER_SEQUENCE_NUMBER)) is Blame.OURS
    assert blame(Fault(Fault.UNKNOWN)) is Blame.PASSING


@pytest.mark.parametrize("stamps", [False, True])
@pytest.mark.parametrize("fault", [TOO_LARGE, WRONG_TIME, NO_KEY], ids=str)
def test_what_was_refused_long_ago_is_tried_again(monkeypatch, fault, stamps):
    """A topic may take more by now: one try in a while, which costs one refusal at most, and all is forgotten if it is taken."""
    clock, now = [1_000.0], int(time.time() * 1000)
    monkeypatch.setattr(topic_limits.time, "monotonic", lambda: clock[0])
    limits, message = TopicLimits("topic"), letter(None, b"v" * 90_000, timestamp_ms=now - 24 * HOUR)
    limits.stamps = stamps
    whole = stamped(message) if stamps else message
    limits.learn(whole, fault)
    modest = limits.form(message)
    if not stamps or fault is not WRONG_TIME:
        assert modest != whole
    for taken in (False, False, True):
        clock[0] += LASTS - 1
        assert limits.form(message) == modest
        limits.settle()
        clock[0] += 1
        if limits.form(message) == modest:  # the topic's own time is never tried again
            return
        assert limits.form(message) == whole
        limits.settle() if taken else limits.learn(whole, fault)
        assert limits.form(message) == (whole if taken else modest)


def test_small_messages_prove_nothing(monkeypatch):
    """That a topic takes what it always took does not make it forget what it refused."""
    clock = [1_000.0]
    monkeypatch.setattr(topic_limits.time, "monotonic", lambda: clock[0])
    limits, large = TopicLimits("topic"), letter(value=b"v" * 90_000)
    limits.learn(large, TOO_LARGE)
    clock[0] += LASTS
    limits.form(letter())
    limits.settle()
    limits.learn(limits.form(large), TOO_LARGE)
    assert size(limits.form(large)) <= 65_536
