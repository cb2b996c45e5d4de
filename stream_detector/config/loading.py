"""Reads the configuration file, and says in one line each what is wrong with it."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from stream_detector.config.sections import FeatureConfig
from stream_detector.config.whole import Config
from stream_detector.errors import ConfigError

__all__ = ["load_config"]

MAX_CONFIG_BYTES = 1 << 20


def load_config(path: Path | None) -> Config:
    """The configuration in `path` (None: all defaults) under the environment's overrides.

    Raises `ConfigError` with one line a fault: file, key, the value seen, and what to do.
    """
    where = str(path) if path else "configuration"
    try:
        return Config(**(_read(path) if path else {}))
    except ValidationError as error:
        raise ConfigError("\n".join(f"{where}: {line}" for line in _explain(error))) from None
    except SettingsError as error:
        raise ConfigError(f"environment: {error}; values of lists and objects are written as JSON") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES:,} bytes; this is no configuration file")
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):  # a bomb expands only in safe_load
            raise ConfigError(f"{path}: YAML aliases are not allowed; write the values out")
        document = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path given with -c") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if document is not None and not isinstance(document, dict):
        raise ConfigError(f"{path}: holds a {type(document).__name__}; expected sections such as 'kafka:'")
    if any(not isinstance(key, str) for key in document or {}):
        raise ConfigError(f"{path}: every key on the top level must be text")
    return document or {}


def _explain(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False):
        key = ".".join(str(part) for part in fault["loc"]) or "configuration"
        if fault["type"] == "extra_forbidden":
            yield f"{key}: unknown key{_suggestion(fault['loc'])}"
        elif _secret(key):
            yield f"{key}: {fault['msg']}"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            seen = "" if isinstance(fault["input"], dict) else f" (got {fault['input']!r:.80})"
            yield f"{key}: {message[:1].lower()}{message[1:]}{seen}"


def _secret(key: str) -> bool:
    return any(part in key for part in ("password", "properties", "user_info"))


def _suggestion(location: tuple[int | str, ...]) -> str:
    section: type[BaseModel] = Config
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        inner = field.annotation if field else FeatureConfig
        section = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else FeatureConfig
    known = list(section.model_fields)
    close = get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"
