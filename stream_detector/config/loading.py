"""Reads the configuration, and says in one line each what is wrong with it: where, which key, and what to do."""

import os
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from stream_detector.config.document import Document, Key, read
from stream_detector.config.knowledge import known_keys, named, shows_its_value
from stream_detector.config.whole import ENVIRONMENT_PREFIX, Config
from stream_detector.errors import ConfigError
from stream_detector.foreign import printable, without_credentials

__all__ = ["Check", "load_config"]

Check = Callable[[Config], Iterable[tuple[Key, str]]]
"""Finds faults beyond the schema: where, and what is wrong there."""

OURS = "Value error, "
MAPPING = "expected keys and values, as in 'key: value'"
PLAINLY = {
    "too_short": "is empty",
    "string_too_short": "is empty",
    "model_type": MAPPING,
    "model_attributes_type": MAPPING,
    "dict_type": MAPPING,
}
"""What is said of some faults, in place of pydantic's words."""


def load_config(path: Path | None, check: Check | None = None) -> Config:
    """The configuration in `path` (None: all defaults) under the environment's overrides.

    `check` finds faults that only clients know. Raises `ConfigError` with one line a fault: file and line, key, the
    value seen where it cannot be secret, and what to do.
    """
    document = read(path) if path else Document()
    try:
        config = Config(**document.values)
    except ValidationError as error:
        faults = [*_environment_faults(), *_explain(error, document)]
    except SettingsError as error:
        faults = [f"environment: {error}; values of lists and objects are written as JSON"]
    else:
        found = check(config) if check else ()
        faults = [*_environment_faults(), *(_line(document, key, what) for key, what in found)]
    if faults:
        raise ConfigError(*dict.fromkeys(faults))
    return config


def _explain(error: ValidationError, document: Document) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False):
        key = fault["loc"][:3] if "properties" in str(fault["loc"][1:2]) else fault["loc"]
        section, found, rest = fault["msg"].removeprefix(OURS).partition(": ")
        if not key and found and section in Config.model_fields:  # what a section's values are as a whole
            yield _line(document, (section,), rest)
        else:
            yield _line(document, key, _what(fault, key, document))


def _line(document: Document, key: Key, what: str) -> str:
    where = _variable(key, document) or document.where(key)
    name = ".".join(named(key, document)) or "configuration"
    return f"{where}: {name}: {without_credentials(document.without_filled(what))}"


def _what(fault: ErrorDetails, key: Key, document: Document) -> str:
    kind, said = fault["type"], fault["msg"].removeprefix(OURS)
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(key)}"
    if key != fault["loc"] and kind != "value_error":  # a property, which may be of several types
        return "must be text, a number, or true or false"
    return PLAINLY.get(kind) or f"{said[:1].lower()}{said[1:]}{_seen(fault['input'], key, document, said)}"


def _seen(value: object, key: Key, document: Document, said: str) -> str:
    """The wrong value, where it is plain, cannot be secret, and was not said yet."""
    if not isinstance(value, str | int | float) or value in document.filled or repr(value) in said:
        return ""
    return f" (got {printable(repr(value), 80)})" if shows_its_value(key) else ""


def _suggestion(key: Key) -> str:
    known = known_keys(key[:-1])
    close = get_close_matches(str(key[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"


def _variable(key: Key, document: Document) -> str | None:
    """The environment variable that a value, or what is within it, came from, as a place."""
    given = {name.upper(): name for name in os.environ}
    names = [ENVIRONMENT_PREFIX + "__".join(str(part).upper() for part in key[:end]) for end in range(len(key), 0, -1)]
    found = [given[name] for name in names if name in given]
    if names and key not in document.lines:
        found += [each for name, each in given.items() if name.startswith(names[0] + "__")]
    return f"environment: {printable(found[0])}" if found else None


def _environment_faults() -> Iterator[str]:
    """Variables with our prefix that name no section; others, as orchestrators set them, have no double underscore."""
    for variable in sorted(os.environ):
        section, found, _ = variable.upper().removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if found and variable.upper().startswith(ENVIRONMENT_PREFIX) and section.lower() not in Config.model_fields:
            yield f"environment: {printable(variable)}: unknown section{_suggestion((section.lower(),))}"
