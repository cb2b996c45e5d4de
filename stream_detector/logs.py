"""Structured logs on standard error: one JSON object a line, or readable lines on a terminal.

Text that came from outside is shown with its control characters escaped and cut at 500
characters, so that no record can forge a line or colour a terminal; values of keys that name a
secret are never shown.
"""

import logging
import re
import sys
from typing import Any

import structlog

from stream_detector.config import LogConfig
from stream_detector.records import CONTROL

__all__ = ["configure"]

SECRET = re.compile(r"password|secret|token|sasl\.jaas|ssl\.key", re.IGNORECASE)
LONGEST = 500


def configure(config: LogConfig) -> None:
    """Sets up structlog for the process."""
    as_json = config.format == "json" or (config.format == "auto" and not sys.stderr.isatty())
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _hide_secrets,
            *([] if as_json else [_make_printable]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[config.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def _hide_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: "[hidden]" if SECRET.search(key) else _short(value) for key, value in event.items()}


def _make_printable(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """JSON escapes control characters by itself; a console line does not."""
    return {key: _escaped(value) if isinstance(value, str) else value for key, value in event.items()}


def _short(value: Any) -> Any:
    return value[:LONGEST] + "…" if isinstance(value, str) and len(value) > LONGEST else value


def _escaped(text: str) -> str:
    return "\n".join(CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", line) for line in text.split("\n"))
