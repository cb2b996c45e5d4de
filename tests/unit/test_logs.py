"""Logs: one JSON object a line whatever the text, and never a secret."""

import json

import pytest
import structlog

from stream_detector.config import LogConfig
from stream_detector.logs import configure

HOSTILE = ["\x1b[31mred", "two\nlines", "\r\rover", '{"level":"forged"}', "\u202egnp", "x" * 10_000, "\x00"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_one_json_line(capsys, text):
    """No text from outside can forge a second log line or reach the terminal raw."""
    configure(LogConfig(format="json"))
    structlog.get_logger().warning("seen", topic=text)
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert json.loads(err)["event"] == "seen"
    assert "\x1b" not in err
    assert len(err) < 2_000


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_cannot_colour_a_console(capsys, text):
    """On a console, control characters are escaped."""
    configure(LogConfig(format="console"))
    structlog.get_logger().warning("seen", topic=text)
    assert "\x1b[31mred" not in capsys.readouterr().err


def test_keys_that_name_a_secret_are_hidden(capsys):
    """The value under a password key does not appear."""
    configure(LogConfig(format="json"))
    structlog.get_logger().info("connect", sasl_password="canary", user="u")
    err = capsys.readouterr().err
    assert "canary" not in err
    assert json.loads(err)["user"] == "u"
