"""Event times as other programs write them, and what is no time."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.records.documents import event_time, guessed
from stream_detector.records.event_times import NO_TIME, nanoseconds

NEW_YEAR = "2026-01-01T00:00:00.000+00:00"
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FROM, TO = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC), datetime(2286, 11, 20, 17, 46, 39, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.datetimes(FROM.replace(tzinfo=None), TO.replace(tzinfo=None)), st.sampled_from(sorted(PER_SECOND)))
def test_the_unit_of_a_number_is_seen_by_its_digits(moment, unit):
    """Seconds to nanoseconds of the years 2001 to 2286 are read alike, as numbers and as digits in text."""
    known = moment.replace(microsecond=0, tzinfo=UTC)
    count = int((known - EPOCH) / timedelta(seconds=1)) * PER_SECOND[unit]
    expected = known.isoformat(timespec="milliseconds")
    assert guessed(count) == guessed(str(count)) == unit
    assert {event_time(each) for each in (count, str(count), Decimal(count))} == {expected}
    assert event_time(count, unit) == event_time(str(count), unit) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_767_225_600.25, "auto", "2026-01-01T00:00:00.250+00:00"),
        ("1767225600.123999", "auto", "2026-01-01T00:00:00.123+00:00"),
        (1_767_225_600_123_999_999, "auto", "2026-01-01T00:00:00.123+00:00"),
        (1000, "ms", "1970-01-01T00:00:01.000+00:00"),
        (0, "s", "1970-01-01T00:00:00.000+00:00"),
        (1_767_225_600_000, "us", "1970-01-21T10:53:45.600+00:00"),
        ("20260101", "s", "1970-08-23T11:48:21.000+00:00"),
        (253_402_300_799_999, "ms", "9999-12-31T23:59:59.999+00:00"),
        (253_402_300_800_000, "ms", None),
        (-1, "ms", None),
        ("2026-01-01T00:00:00Z", "ns", NEW_YEAR),
    ],
)
def test_a_unit_that_is_set_goes_before_the_digits(value, unit, expected):
    """`record.time_unit` bears on numbers and digits, not on text with a date; fractions are cut."""
    assert event_time(value, unit) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01t00:00:00z",
        "2026-01-01 00:00:00",
        " 2026-01-01 00:00:00 +0000 ",
        "2026-01-01T00:00:00,000Z",
        "2026-01-01T00:00:00.000000999Z",
        "2026-01-01T01:30:00+01:30",
        "2025-12-31T19:00:00-0500",
        "2026-01-01T00:00:00-00:00",
        "2026-01-01T01:00:00+01",
        "2025-12-31T23:59:60Z",
        "2026-01-01T00:59:60+01:00",
        "20260101T000000Z",
        "2026-01-01",
        "20260101",
        "2026-W01-4",
        datetime(2026, 1, 1),  # noqa: DTZ001 - Avro's local timestamps
        datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        date(2026, 1, 1),
    ],
)
def test_any_valid_rfc_3339_is_a_time(text):
    """Commas, lower case, blanks, any number of decimals, offsets in all forms, a leap second, the types of Avro."""
    assert event_time(text) == NEW_YEAR


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "yesterday",
            "2026",
            "2026-13-01",
            "2026-01-01T24:00:00Z",
            "2026-01-05T12:30:60Z",
            "2026-01-01T12:00:61Z",
        ),
        *("2026-01-01+01:00", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+00:60", "0000-01-01T00:00:00Z"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00", "٢٠٢٦-٠١-٠١", "1" * 5000, "nan", "-1767225600"),
        *(
            "2026-01-01T00:00:00[Europe/Zurich]",
            "1767225600e3",
            "0x69",
            "1_767_225_600",
            "Thu, 01 Jan 2026 00:00:00 GMT",
        ),
        *(2026, 20_260_101, 202_601_010_000, 20_260_101_000_000, 639_028_224_000_000_000),
        *(-1000, -1_767_225_600, float("nan"), float("inf"), 1e300, 2**70, Decimal("NaN"), Decimal("1e400000")),
        *(True, None, [], {"$date": 1_767_225_600_000}, b"1767225600", timedelta(1), datetime(2026, 1, 1).time()),  # noqa: DTZ001
    ],
    ids=lambda value: f"{value!r:.40}",
)
def test_what_is_no_time_stays_no_time(value):
    """Neither an error nor a wrong date: years and dates written as numbers, ticks of .NET, what no calendar has."""
    assert event_time(value) is None


@given(st.text() | st.from_regex(r"[0-9TZ:.,+\- ]{0,30}", fullmatch=True) | st.integers() | st.floats() | st.decimals())
def test_no_value_is_an_error(value):
    """Whatever a record has for its time, it is a time or none, in any unit."""
    guessed(value)
    for unit in ("auto", *PER_SECOND):
        found = event_time(value, unit)
        assert found is None or datetime.fromisoformat(found).tzinfo == UTC


NUMBERS = (
    st.integers(0, 10**21) | st.integers(10**9, 10**13) | st.sampled_from([253_402_300_799_999, 2**63, 10**22, -1])
)
STAMPS = st.datetimes().map(lambda each: each.isoformat(timespec="seconds") + "Z")


@given(st.lists(NUMBERS, min_size=1) | st.lists(STAMPS, min_size=1), st.sampled_from(["auto", *sorted(PER_SECOND)]))
def test_times_are_read_alike_together_and_one_by_one(values, unit):
    """Whatever stands beside it in a batch, and however far it lies from now, a time is the same nanoseconds."""
    together = nanoseconds(values, unit).tolist()
    assert together == [nanoseconds([value, None], unit)[0] for value in values]
    assert all(each == NO_TIME or abs(each) <= 2**62 for each in together)
