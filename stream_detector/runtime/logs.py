"""Structured logs on standard error, answers on a terminal, and the last error of a program.

Text that came from outside is shown escaped, so that no record can forge a line or colour a
terminal, and in logs cut at 500 characters. Values of keys that name a secret are never shown, nor
what stands before the `@` of an address.
"""

import logging
import re
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Any, TextIO, cast

import structlog
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream_detector.config import LogConfig
from stream_detector.errors import ConfigError, StreamDetectorError
from stream_detector.foreign import json_line, printable, printable_lines, without_credentials

__all__ = ["Terminal", "answer_in_json", "configure", "never_fail_to_encode", "report"]

SECRET = re.compile(r"password|secret|token|sasl\.jaas|ssl\.key|user_info", re.IGNORECASE)
LONGEST = 500
NARROW = 80  # columns of a terminal, below which no cell of a table can insist on one line


class Terminal(Console):
    """A console that shows text as it is: without markup, emoji names or highlights, and escaped by `printable`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints; on a narrow terminal a table's cells go on in the next line, because a cut number is another number."""
        for table in (each for each in objects if isinstance(each, Table)):
            for column in table.columns:
                column.overflow = "fold"
                column.no_wrap = column.no_wrap and self.width >= NARROW
        super().print(*objects, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escapes a string; Rich calls this for every string that is printed, in tables as well."""
        return super().render_str(printable_lines(text), **options)


class _Steadfast:
    """A stream for logs: a full disk, or a reader that has left, loses lines and ends no program."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure(config: LogConfig) -> None:
    """Sets up structlog for the process."""
    as_json = config.format == "json" or (config.format == "auto" and not sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _hide_secrets,
            *(_rendered_in_json() if as_json else (_make_printable, structlog.dev.ConsoleRenderer())),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[config.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=cast("TextIO", _Steadfast(sys.stderr))),
        cache_logger_on_first_use=False,
    )


def report(error: StreamDetectorError) -> int:
    """Says on standard error why a program ends; returns its exit code. A configuration may have several faults."""
    faults = error.args if isinstance(error, ConfigError) else (str(error),)
    shown = "\n".join(printable(without_credentials(str(fault)), None) for fault in faults)
    print(f"error: {shown}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def answer_in_json(document: str | bytes) -> None:
    """Prints a JSON document for other programs, readable by people as well."""
    print(json_line(document), flush=True)  # noqa: T201


def never_fail_to_encode() -> None:
    """Has standard output replace what its encoding lacks, rather than end the program."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _rendered_in_json() -> tuple[structlog.typing.Processor, ...]:
    return structlog.processors.JSONRenderer(), lambda _logger, _method, line: json_line(str(line))


def _hide_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: "[hidden]" if SECRET.search(key) else _harmless(value) for key, value in event.items()}


def _make_printable(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escapes the values of a console line; JSON escapes by itself. Only a traceback keeps its lines."""
    return {
        key: (printable_lines(value) if key == "exception" else printable(value, None))
        if isinstance(value, str)
        else value
        for key, value in event.items()
    }


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = without_credentials(value)
    return text[:LONGEST] + "…" if len(text) > LONGEST else text
