"""What a model pointer says of itself."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from malformed_pointers import SOUND, unsound

from stream_detector.errors import ModelFormatError
from stream_detector.records.pointer import VERSION, Pointer


def test_a_pointer_keeps_near_what_a_person_approved_and_until_then_near_the_first():
    """So a first model that nobody looked at is no approval, and later ones still may not stray far from it."""
    automatic = Pointer("a" * 64, "b" * 64, "somebody", "now", "why", first="c" * 64)
    approved = replace(automatic, approved="d" * 64)

    assert (automatic.anchor, approved.anchor) == ("c" * 64, "d" * 64)
    assert "c" * 64 in automatic.versions
    assert "c" * 64 not in approved.versions


@pytest.mark.parametrize(
    ("when", "moment"),
    [
        ("2026-01-02T03:04:05+00:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("now", None),
        ("", None),
    ],
)
def test_a_pointer_that_names_no_time_stops_nobody(when, moment):
    """Other programs write pointers, too: without a zone the time is UTC, and no time is none."""
    assert Pointer("a" * 64, None, "somebody", when, "why").moment == moment


FIELD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70) | st.just("b" * 64)
VALUE = st.recursive(FIELD, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4)
NAMES = st.sampled_from(["version", "previous", "who", "when", "why", "approved_by", "approved", "first", "x"])


@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in unsound().items()])
def test_what_is_no_pointer_is_named_by_its_place(value):
    """Whatever stands there, the error is ours, of one line, and holds nothing of the value."""
    with pytest.raises(ModelFormatError, match=r"^at offset 7: not a model pointer, .*models promote") as caught:
        Pointer.from_json(value, "at offset 7")
    assert len(str(caught.value)) < 300


@given(st.binary() | VALUE.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_pointer_or_an_error_of_ours(value):
    """No value makes reading a pointer fail in another way."""
    with suppress(ModelFormatError):
        Pointer.from_json(value, "here")


@given(st.dictionaries(NAMES, VALUE))
def test_what_is_read_is_a_pointer_in_every_field(changes):
    """Whatever fields a writer chose: text where text must be, versions where versions must be, nothing else."""
    try:
        pointer = Pointer.from_json(json.dumps(SOUND | changes).encode(), "here")
    except ModelFormatError:
        return
    named = [pointer.version, *filter(None, (pointer.previous, pointer.approved, pointer.first))]
    assert all(VERSION.fullmatch(version) for version in named)
    assert all(type(text) is str for text in (pointer.who, pointer.when, pointer.why, pointer.approved_by or ""))
    assert Pointer.from_json(pointer.to_json(), "again") == pointer
    assert pointer.moment is None or pointer.moment.tzinfo


def test_pointers_of_earlier_writers_are_read():
    """The fields that came later may be left out."""
    assert Pointer.from_json(json.dumps(SOUND).encode(), "here") == Pointer(**SOUND)
