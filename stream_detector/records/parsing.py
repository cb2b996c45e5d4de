"""Reads values out of JSON that other programs wrote: each has its type, or the whole is refused by a ValueError.

Readers skip what is refused, and go on.
"""

import json
from typing import Any

__all__ = ["count", "field", "json_object", "place", "texts"]

LARGEST = 2**63 - 1
LARGEST_PARTITION = 2**31 - 1


def json_object(value: bytes) -> dict[str, Any]:
    """The object that a message's value is; raises ValueError when it is none."""
    try:
        body = json.loads(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(body, dict):
        raise ValueError(f"a JSON {type(body).__name__}, expected an object")  # noqa: TRY004 - one kind of error for readers
    return body


def field(body: object, name: str, *kinds: type) -> Any:
    """The value of an object's key, None when it is absent; raises ValueError when its type is none of the kinds."""
    value = body.get(name) if isinstance(body, dict) else None
    if type(value) not in kinds:
        raise ValueError(
            f"{name!r} is a {type(value).__name__}, expected {' or '.join(kind.__name__ for kind in kinds)}"
        )
    return value


def count(body: object, name: str, most: int = LARGEST) -> int:
    """A whole number from 0 to `most`; raises ValueError when it is none."""
    value: int = field(body, name, int)
    if not 0 <= value <= most:
        raise ValueError(f"{name!r} is not from 0 to {most}")
    return value


def texts(body: object, name: str) -> tuple[str, ...]:
    """Several texts, perhaps none; raises ValueError when they are anything else."""
    values: list[object] = field(body, name, list)
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name!r} holds other values than text")
    return tuple(map(str, values))


def place(body: object) -> tuple[str, int, int]:
    """The topic, partition and offset that an object names; raises ValueError when there can be no such record."""
    return field(body, "topic", str), count(body, "partition", LARGEST_PARTITION), count(body, "offset")
