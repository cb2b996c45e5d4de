"""Logs: one JSON object a line whatever the text, and never a secret."""

import io
import json

import pytest
import structlog
from rich.table import Table

from stream_detector.config import LogConfig
from stream_detector.runtime.logs import Terminal, configure

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


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_shows_tables_whole(width):
    """In 40 columns cells take more lines; no digit is left out."""
    out = io.StringIO()
    table = Table("topic", "partition", "committed", "end", "lag")
    row = ("telemetry-of-a-long-name-that-goes-on", "3", "1,234,567", "1,234,999", "432")
    table.add_row(*row)
    Terminal(file=out, width=width).print(table)
    lines = [line.split("│")[1:-1] for line in out.getvalue().splitlines() if line.startswith("│")]
    assert tuple("".join(part.strip() for part in cell) for cell in zip(*lines, strict=True)) == row
    assert max(map(len, out.getvalue().splitlines())) <= width


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch):
    """A full disk behind standard error loses lines; a worker that ended for it would lose more."""
    monkeypatch.setattr("sys.stderr", Full())
    configure(LogConfig(format="json"))
    structlog.get_logger().warning("lost")
