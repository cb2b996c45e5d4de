"""The value of the model pointer: which version serves, which did before, and who decided it."""

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from stream_detector.errors import ModelFormatError

__all__ = ["VERSION", "Pointer"]

VERSION = re.compile(r"[0-9a-f]{64}")
MAX_BYTES = 65_536  # of a pointer; ours have a tenth of it at most
NAMES = {"version", "previous", "who", "when", "why", "approved_by", "approved", "first"}
VERSIONS = {"version", "previous", "approved", "first"}
OPTIONAL = {"previous", "approved", "first", "approved_by"}
LEFT_OUT = {"approved", "first", "approved_by"}  # by writers of an earlier day


@dataclass(frozen=True, slots=True)
class Pointer:
    """The version that serves, the one that served before, and who moved the pointer, when (RFC 3339) and why.

    `approved_by` is the person who chose the version, None when a program did; `approved` is the
    version that a person chose last, `first` the one that the topic began with, both carried on.
    """

    version: str
    previous: str | None
    who: str
    when: str
    why: str
    approved_by: str | None = None
    approved: str | None = None
    first: str | None = None

    @property
    def moment(self) -> datetime | None:
        """The time when it was moved, UTC where no zone is given; None when `when` is no time."""
        try:
            moved = datetime.fromisoformat(self.when)
        except ValueError:
            return None
        return moved if moved.tzinfo else moved.replace(tzinfo=UTC)

    @property
    def anchor(self) -> str | None:
        """The version that later ones may not stray far from: the one approved, until then the first."""
        return self.approved or self.first

    @property
    def versions(self) -> frozenset[str]:
        """All versions that are still wanted."""
        return frozenset(version for version in (self.version, self.previous, self.anchor) if version)

    @classmethod
    def from_json(cls, value: bytes, where: str) -> Self:
        """Reads a pointer from its record, which `where` names; raises `ModelFormatError` when it is no pointer of ours."""
        fields = _fields(value)
        if isinstance(fields, str):
            raise ModelFormatError(
                f"{where}: not a model pointer, {fields}; write a sound one with 'stream-detector models promote VERSION'"
            )
        return cls(**fields)

    def to_json(self) -> bytes:
        """The pointer's value on the topic."""
        return json.dumps(asdict(self)).encode()


def _fields(value: bytes) -> dict[str, Any] | str:
    """Reads a pointer's fields, or says what is wrong with them."""
    if len(value) > MAX_BYTES:
        return f"it has {len(value):,} bytes"
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(fields, dict) or not NAMES - LEFT_OUT <= fields.keys() <= NAMES:
        return f"an object with the keys {', '.join(sorted(NAMES))} is expected"
    wrong = (name for name, field in fields.items() if not _fits(name, field))
    return next((f"{name!r} cannot be so" for name in wrong), fields)


def _fits(name: str, field: object) -> bool:
    if not isinstance(field, str):
        return field is None and name in OPTIONAL
    return name not in VERSIONS or bool(VERSION.fullmatch(field))
