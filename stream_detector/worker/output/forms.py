"""The forms that a message may take on its way out: as it is, and what is left of it where its topic will not have that."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import orjson

from stream_detector.records import CONNECT, Header
from stream_detector.records.dead_letters import LOST, ORIGINAL

__all__ = ["Outgoing", "fitted", "keyed", "size", "stamped"]

BATCH_BYTES = 80  # of a batch that holds one message, beside what the message holds
HEADER_BYTES = 8  # of a header, beside name and content
TRUNCATED = "stream-detector.truncated."
STAMP = ORIGINAL + "timestamp"
IDENTITY = (*(CONNECT + name for name in ("topic", "partition", "offset", "exception.class.name")), STAMP, "ce_id")
FREE_TEXT = (CONNECT + "exception.message", "ce_subject")
NAMES = ("entity", "event_id")  # texts of an alert that may be cut
NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for a topic; `id` names what it tells of. `timestamp_ms` 0 is the time of sending.

    `structured`: the value is a JSON object, and whatever is left of it must be one.
    """

    id: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()
    timestamp_ms: int = 0
    structured: bool = True


def size(message: Outgoing) -> int:
    """Bytes on the broker when it is alone in its batch, uncompressed: at most a few less."""
    return BATCH_BYTES + len(message.key or b"") + len(message.value or b"") + _bytes_of(message.headers)


def stamped(message: Outgoing) -> Outgoing:
    """With the time of sending; the message's own is in a header."""
    if not message.timestamp_ms:
        return message
    stamp = STAMP, str(message.timestamp_ms).encode()
    return replace(message, timestamp_ms=0, headers=(*message.headers, stamp))


def keyed(message: Outgoing) -> Outgoing:
    """With its id for a key, when it has none."""
    return message if message.key is not None else replace(message, key=message.id.encode())


def fitted(message: Outgoing, most: int) -> Outgoing:
    """What of a message fits into `most` bytes, parts that were cut described in headers; larger when nothing fits."""
    if size(message) <= most:
        return message
    ours = [header for header in message.headers if message.structured or _is_ours(header[0])]
    roomy = _fitted(message, most, ours)
    return roomy if size(roomy) <= most else _fitted(message, most, [each for each in ours if each[0] in IDENTITY])


def _fitted(message: Outgoing, most: int, ours: list[Header]) -> Outgoing:
    ours = [(name, _brief(name, content, most)) for name, content in ours]
    room = most - size(Outgoing(message.id, None, None, ours))
    key, about_key = _cut(message.key, "key.", room // 4)
    room -= len(key or b"") + _bytes_of(about_key)
    theirs, about_headers = _kept(message, room // 4)
    room -= _bytes_of([*theirs, *about_headers])
    value, about_value = _cut(message.value, "", room)
    if about_value and message.structured:
        value = _shorter(message.value or b"", room - _bytes_of(about_value))
    return replace(message, key=key, value=value, headers=(*theirs, *ours, *about_value, *about_key, *about_headers))


def _cut(part: bytes | None, name: str, most: int) -> tuple[bytes | None, list[Header]]:
    """As much of a key or value as fits with the headers that describe what it was."""
    if part is None or len(part) <= most:
        return part, []
    about: list[Header] = [
        (f"{TRUNCATED}{name}bytes", str(len(part)).encode()),
        (f"{TRUNCATED}{name}sha256", sha256(part).hexdigest().encode()),
    ]
    return part[: max(0, most - _bytes_of(about))], about


def _kept(message: Outgoing, room: int) -> tuple[list[Header], list[Header]]:
    """The original's headers that fit, in their order, and how many do not."""
    kept: list[Header] = []
    theirs = [] if message.structured else [header for header in message.headers if not _is_ours(header[0])]
    for header in theirs:
        if _bytes_of([header]) <= room:
            room -= _bytes_of([header])
            kept.append(header)
    left_out = len(theirs) - len(kept)
    return kept, [(TRUNCATED + "headers", str(left_out).encode())] if left_out else []


def _shorter(value: bytes, most: int) -> bytes:
    """A JSON object without the ends of its lists, so that it fits; how many are left out stands under `left_out`."""
    body = orjson.loads(value)
    lists = [name for name, part in body.items() if isinstance(part, list)]
    left_out: Counter[str] = Counter()
    while len(text := orjson.dumps(body | {"left_out": left_out})) > most:
        longest = max(lists, key=lambda name: len(body[name]), default="")
        if not body.get(longest):
            return orjson.dumps(body | {name: body[name][:NAME_CHARACTERS] for name in NAMES if body.get(name)})
        rest = len(body[longest]) // 2
        left_out[longest] += len(body[longest]) - rest
        body[longest] = body[longest][:rest]
    return text


def _is_ours(name: str) -> bool:
    return name.startswith(CONNECT) or name in {LOST, STAMP}


def _brief(name: str, content: bytes | None, most: int) -> bytes | None:
    return content[: most // 8] if content and name in FREE_TEXT else content


def _bytes_of(headers: Sequence[Header]) -> int:
    return sum(HEADER_BYTES + len(name.encode()) + len(content or b"") for name, content in headers)
