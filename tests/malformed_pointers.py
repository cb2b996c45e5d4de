"""What may stand under a pointer's key and is no pointer: one of each kind."""

import json
from typing import Any

SOUND: dict[str, Any] = {"version": "a" * 64, "previous": None, "who": "somebody", "when": "now", "why": "because"}


def unsound() -> dict[str, bytes]:
    """The values, by what is wrong with them."""
    fields = {
        "version without a value": {"version": None},
        "version as a number": {"version": 7},
        "version too short": {"version": "abc"},
        "version that climbs": {"version": "../" * 20 + "passwd"},
        "version with a line end": {"version": "a" * 64 + "\n"},
        "version in a list": {"version": ["a" * 64]},
        "version that is huge": {"version": "a" * 900_000},
        "previous as a number": {"previous": 10**300},
        "previous that is none": {"previous": "../x"},
        "approved as an object": {"approved": {"version": "a" * 64}},
        "first that is none": {"first": ""},
        "who as a list": {"who": ["me"]},
        "who that is null": {"who": None},
        "when as a number": {"when": 0},
        "when that is true": {"when": True},
        "why that is huge": {"why": "x" * 900_000},
        "why as an object": {"why": {}},
        "approved_by as a number": {"approved_by": 1.5},
        "an unknown key": {"colour": "red"},
        "a key of the class": {"__class__": "x"},
    }
    return {
        **{name: json.dumps(SOUND | field).encode() for name, field in fields.items()},
        **{f"without {name}": json.dumps({k: v for k, v in SOUND.items() if k != name}).encode() for name in SOUND},
        "empty": b"",
        "nonsense": b"nonsense",
        "cut off": json.dumps(SOUND).encode()[:-1],
        "a list": b"[]",
        "null": b"null",
        "text": b'"current"',
        "a number of 20,000 digits": b"1" * 20_000,
        "no UTF-8": b'{"version": "\xff\xfe"}',
        "binary": bytes(range(256)) * 16,
        "deeply nested": b"[" * 30_000,
        "deeply nested in a field": json.dumps(SOUND | {"why": 0})
        .encode()
        .replace(b"0}", b"[" * 30_000 + b"]" * 30_000 + b"}"),
        "deeply nested and huge": b'{"a":' * 150_000,
    }
