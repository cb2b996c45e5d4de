"""Tells what may be shown of a key and its value in an error, and which keys are near it, by the schema."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

from stream_detector.config.document import Document, Key
from stream_detector.config.whole import Config
from stream_detector.foreign import printable

__all__ = ["known_keys", "named", "shows_its_value"]

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
WITH_CREDENTIALS = {"bootstrap_servers", "registry_url"}


def known_keys(section: Key) -> list[str]:
    """The keys that a section may have; none when it is no section."""
    model = _model(section)
    return list(model.model_fields) if model else []


def named(key: Key, document: Document) -> Iterator[str]:
    """The parts of a key as they may be shown: one that the schema does not know may be a secret gone astray."""
    for end in range(1, len(key) + 1):
        part = str(key[end - 1])
        known = known_keys(key[: end - 1])
        likely = part in known or isinstance(key[end - 1], int) or get_close_matches(part, known, n=1)
        plausible = WORD.fullmatch(part) and _value(document, key[:end]) is not None
        yield printable(part) if (likely and WORD.fullmatch(part)) or part.isdigit() or plausible else "(a key)"


def shows_its_value(key: Key) -> bool:
    """Tells whether a wrong value may be shown: one of a plain field that holds no secret."""
    section = _model(key[:-1])
    field = section.model_fields.get(str(key[-1])) if section and key else None
    kinds = list(_kinds(field.annotation)) if field else []
    compound = any(isinstance(kind, type) and issubclass(kind, BaseModel | dict | tuple | SecretStr) for kind in kinds)
    return field is not None and not compound and key[-1] not in WITH_CREDENTIALS


def _model(section: Key) -> type[BaseModel] | None:
    model: type[BaseModel] = Config
    for part in section:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        kinds = _kinds(field.annotation) if field else ()
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return None
        model = inner
    return model


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    yield getattr(annotation, "__origin__", annotation)
    for inner in get_args(annotation):
        yield from _kinds(inner)


def _value(document: Document, key: Key) -> Any:
    value: Any = document.values
    for part in key:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value
