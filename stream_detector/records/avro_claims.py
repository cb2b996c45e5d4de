"""The claims of an Avro record: how deep it nests and how many values it holds, read before it is decoded.

It is asked only of schemas by which few bytes may claim much: of types that hold themselves (a reader in C ends the
process when its stack is full), and of arrays and maps of what takes no bytes.
"""

from collections.abc import Mapping
from typing import Any

from stream_detector.config import RecordConfig
from stream_detector.features import Rejection

__all__ = ["AvroClaims"]

WIDTHS = {"null": 0, "boolean": 1, "float": 4, "double": 8}
NUMBERED = frozenset({"int", "long", "enum"})
PREFIXED = frozenset({"bytes", "string"})
VARINT_BYTES = 10
Schema = str | list[Any] | dict[str, Any]


class AvroClaims:
    """Reads claims of records of one parsed schema; `are_bounded`: by their bytes alone, so that none need be read."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._names: dict[str, Schema] = {}
        self._seen: set[tuple[str, bool]] = set()
        self.are_bounded = not self._claims_much(schema, frozenset(), repeated=False)

    def refusal(self, payload: bytes, config: RecordConfig) -> Rejection | None:
        """The reason why a record claims too much; None when it does not. Raises EOFError where its bytes end early."""
        return None if self.are_bounded else _Walk(payload, self._names, config).refusal(self._schema)

    def _claims_much(self, schema: Schema, outer: frozenset[str], *, repeated: bool) -> bool:
        """Tells whether few bytes may claim much; `outer` are the types around it, `repeated`: it is within an array or a map."""
        if isinstance(schema, list):  # each takes a byte that says which one it is
            return any(self._claims_much(each, outer, repeated=repeated) for each in schema if _kind(each) != "null")
        kind = _kind(schema)
        if isinstance(kind, dict | list):
            return self._claims_much(kind, outer, repeated=repeated)
        if isinstance(schema, dict) and kind in {"array", "map"}:
            return self._claims_much(schema["items" if kind == "array" else "values"], outer, repeated=True)
        if isinstance(schema, dict) and "name" in schema:
            return self._defined(schema, outer, repeated=repeated)
        return kind in outer or self._named(kind, outer, repeated=repeated)

    def _defined(self, schema: dict[str, Any], outer: frozenset[str], *, repeated: bool) -> bool:
        """Tells whether a record, an enumeration or fixed bytes may claim much."""
        self._names[schema["name"]] = schema
        if schema["type"] not in {"record", "error"}:
            return repeated and schema.get("size") == 0
        within = outer | {schema["name"]}
        fields = [self._claims_much(field["type"], within, repeated=repeated) for field in schema["fields"]]
        return any(fields) or (repeated and not fields)

    def _named(self, name: str, outer: frozenset[str], *, repeated: bool) -> bool:
        """Tells whether a primitive type, or one that was defined before, may claim much."""
        if name not in self._names or (name, repeated) in self._seen:
            return repeated and name == "null"
        self._seen.add((name, repeated))
        return self._claims_much(self._names[name], outer, repeated=repeated)


class _Walk:
    """Walks through a record's bytes without decoding them."""

    def __init__(self, payload: bytes, names: Mapping[str, Schema], config: RecordConfig) -> None:
        self._payload, self._at = payload, 0
        self._names = names
        self._depth = config.max_depth
        self._most = self._left = config.max_bytes

    def refusal(self, schema: Schema) -> Rejection | None:
        try:
            self._value(schema, 0)
        except _TooMuch as found:
            reason: Rejection = found.args[0]
            return reason
        return None

    def _value(self, schema: Schema, depth: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise _TooMuch(Rejection("too-large-inflated", f"more than {self._most:,} values"))
        if isinstance(schema, list):
            schema = schema[self._long()]
        kind = _kind(schema)
        if isinstance(kind, dict | list) or kind in self._names:
            self._value(kind if isinstance(kind, dict | list) else self._names[kind], depth)
        elif kind in WIDTHS:
            self._skip(WIDTHS[kind])
        elif kind in NUMBERED:
            self._long()
        elif kind in PREFIXED:
            self._skip(self._long())
        elif isinstance(schema, dict):
            self._composite(kind, schema, depth)

    def _composite(self, kind: str, schema: dict[str, Any], depth: int) -> None:
        if kind == "fixed":
            self._skip(schema["size"])
            return
        if depth >= self._depth:
            raise _TooMuch(Rejection("too-deep", f"objects and arrays nest deeper than {self._depth}"))
        if kind in {"record", "error"}:
            for field in schema["fields"]:
                self._value(field["type"], depth + 1)
        while kind in {"array", "map"} and (count := self._long()):
            if count < 0:
                self._long()  # the block's bytes
            for _ in range(abs(count)):
                if kind == "map":
                    self._skip(self._long())
                self._value(schema["items" if kind == "array" else "values"], depth + 1)

    def _long(self) -> int:
        found = 0
        for place, byte in enumerate(self._payload[self._at : self._at + VARINT_BYTES]):
            found |= (byte & 0x7F) << 7 * place
            if byte < 0x80:  # the last one
                self._at += place + 1
                return (found >> 1) ^ -(found & 1)
        raise EOFError("a number without an end")

    def _skip(self, size: int) -> None:
        self._at += size
        if size < 0 or self._at > len(self._payload):
            raise EOFError(f"{size:,} bytes are claimed, beyond the record's end")


class _TooMuch(Exception):  # noqa: N818 - not an error but a way out of a record
    """Carries the reason why a record claims too much."""


def _kind(schema: Any) -> Any:
    return schema["type"] if isinstance(schema, dict) else schema
