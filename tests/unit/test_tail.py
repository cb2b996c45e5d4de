"""Alerts read well on a terminal, and nothing in them can harm it."""

import io
import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from consumers.alert_view import FEATURES, one_in, view
from consumers.tail import alerts, main
from stream_detector.records import Alert, Contribution

LATENCY = Contribution("latency_ms", 132.4, 48.1, 0.7, "high")
STATUS = Contribution("status", "crash-loop", "ok", 0.2, "unexpected")
MEMORY = Contribution("memory_mb", 1404.0, 1512.0, 0.06, "low")
DISK = Contribution("disk_io_mb_s", None, 31.0, 0.03, "missing")
ALERT = Alert(
    topic="telemetry",
    partition=2,
    offset=4711,
    key=b"checkout",
    event_id="checkout-0000123",
    entity="checkout",
    event_time="2026-01-05T12:03:36.000+00:00",
    detection_time="2026-01-05T12:03:36.100+00:00",
    model_version="3f" * 32,
    score=6.2,
    threshold=2.7,
    threshold_state="rolling",
    inversion=6.0,
    discriminator=3.1,
    severity="critical",
    contributions=(LATENCY, STATUS, MEMORY, DISK, MEMORY._replace(feature="cpu_percent", contribution=0.01)),
)
HOSTILE = "\x1b[31m\x9b2J\u202ered\r\n[bold]x[/bold]"


def shown(alert: Alert) -> str:
    out = io.StringIO()
    Console(file=out, highlight=False, width=200).print(view(alert))
    return out.getvalue()


class Stored:
    """A message as it lies on the alerts topic."""

    def __init__(self, value: bytes | None) -> None:
        self._value = value

    def value(self):
        return self._value

    def key(self):
        return b"checkout"

    def topic(self):
        return "alerts"

    def partition(self):
        return 1

    def offset(self):
        return 7


def test_an_alert_says_what_where_and_how_rare():
    """Severity, entity, time, score against threshold, and the odds are all there."""
    text = shown(ALERT)

    for part in ("CRITICAL", "checkout", "2026-01-05T12:03:36", "6.20", "2.70", "1 normal record in 1,600,000"):
        assert part in text


def test_features_show_observed_and_expected_with_a_bar_and_an_arrow():
    """One line a feature: direction, observed, expected, and its share as a bar and in per cent."""
    lines = {line.split()[1]: line for line in shown(ALERT).splitlines() if "expected" in line}

    assert {"latency_ms", "status", "memory_mb", "disk_io_mb_s"} == set(lines)
    assert "▲" in lines["latency_ms"]
    assert "132.4" in lines["latency_ms"]
    assert "expected 48.1" in lines["latency_ms"]
    assert "70%" in lines["latency_ms"]
    assert "▼" in lines["memory_mb"]
    assert "1,404" in lines["memory_mb"]
    assert "◆ status" in lines["status"]
    assert "crash-loop" in lines["status"]
    assert "missing" in lines["disk_io_mb_s"]
    assert lines["latency_ms"].count("█") > lines["status"].count("█") > lines["memory_mb"].count("█")


def test_the_features_not_shown_are_counted():
    """What is left out is said, so that shares add up."""
    assert 5 - FEATURES == 1
    assert "and 1 more features, together 1%" in shown(ALERT)


@pytest.mark.parametrize("where", ["entity", "event_id", "event_time", "severity", "topic"])
def test_hostile_text_cannot_reach_the_terminal(where):
    """Control characters, line breaks, direction marks and markup come out harmless."""
    text = shown(replace(ALERT, **{where: HOSTILE}))

    assert not any(character in text for character in "\x1b\x9b\u202e\r")
    assert len(text.splitlines()) == len(shown(ALERT).splitlines())
    assert "[bold]x[/bold]" in text.replace("[BOLD]X[/BOLD]", "[bold]x[/bold]")


def test_hostile_features_cannot_reach_the_terminal():
    """Feature names and categories come from records, and are no more to be trusted."""
    text = shown(replace(ALERT, contributions=(Contribution(HOSTILE, HOSTILE, HOSTILE, 1.0, "high"),)))

    assert not any(character in text for character in "\x1b\x9b\u202e\r")


@example(float("nan"))
@example(float("inf"))
@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_score_can_be_put_in_words(score):
    """No score, however odd, breaks the wording."""
    assert "normal record in" in one_in(score)


def test_rarity_is_the_power_of_ten_of_the_score():
    """3 nines are one in a thousand; no more than two digits are claimed."""
    assert one_in(3.0) == "1 normal record in 1,000"
    assert one_in(3.4) == "1 normal record in 2,500"
    assert one_in(-2.0) == "1 normal record in 1"


def test_what_is_no_alert_is_named_and_passed_over(capsys):
    """A foreign record on the topic does not stop the view."""
    wrong = json.loads(ALERT.to_json())
    wrong["features"][0]["value"] = [1]
    values = [b"{", None, b"[]", json.dumps(wrong).encode(), ALERT.to_json()]

    assert list(alerts(map(Stored, values))) == [ALERT]
    assert capsys.readouterr().err.count("skipped: alerts-1@7") == 4


def test_without_a_broker_one_line_says_so(capsys):
    """The address and the remedy, no traceback, the documented exit code."""
    assert main(["--bootstrap-servers", "127.0.0.1:1", "--from-beginning"]) == 5
    error = capsys.readouterr().err.strip()

    assert len(error.splitlines()) == 1
    assert "127.0.0.1:1" in error
