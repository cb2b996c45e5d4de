"""Learns from a topic's refusals what messages it takes, and gives each message a form within that.

A message is sent as it is at first. What is left of it where its topic refuses that is described in headers.
"""

import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from math import inf

import orjson
import structlog
from confluent_kafka import KafkaError as Fault

from stream_detector.records import CONNECT, Header
from stream_detector.records.dead_letters import LOST, ORIGINAL
from stream_detector.worker.output.producer import NO_TIME, Outgoing

__all__ = ["TOO_LARGE", "TopicLimits", "fitted", "keyed", "size", "stamped"]

SIZES = (65_536, 16_384, 8_192, 4_096, 2_048, 960, 640, 480)  # bytes to try one after the other
WIDER = 0.5  # of a time that was refused: what is nearer to now is still tried as it is
LASTS = 600.0  # seconds that a refusal is believed
REMEMBERED = 131_072  # messages refused in every form: more than a transaction holds
TOO_LARGE = frozenset({Fault.MSG_SIZE_TOO_LARGE, Fault.RECORD_LIST_TOO_LARGE})

BATCH_BYTES = 80  # of a batch that holds one message, beside what the message holds
HEADER_BYTES = 8  # of a header, beside name and content
TRUNCATED = "stream-detector.truncated."
STAMP = ORIGINAL + "timestamp"
IDENTITY = (*(CONNECT + name for name in ("topic", "partition", "offset", "exception.class.name")), STAMP, "ce_id")
FREE_TEXT = (CONNECT + "exception.message", "ce_subject")
NAMES = ("entity", "event_id")  # texts of an alert that may be cut
NAME_CHARACTERS = 64

log = structlog.get_logger(__name__)


class TopicLimits:
    """Knows the limits of one topic that its refusals have shown, as long as its worker lasts.

    Refusals of one message tell of others: what is as large, as far ahead or behind, or without a key. Operators change
    topics: once in `LASTS` seconds a message is tried as it is again, and all is forgotten when that is taken.
    """

    def __init__(self, topic: str) -> None:
        self.stamps = False
        """Whether the topic puts the broker's time in the place of a message's own."""
        self._topic = topic
        self._bytes = sys.maxsize
        self._forget()
        self._hopeless: OrderedDict[str, None] = OrderedDict()

    def form(self, message: Outgoing) -> Outgoing | None:
        """Gives the form to send a message in: as it is unless that was refused; None when no form is left."""
        if message.id in self._hopeless:
            return None
        if time.monotonic() >= self._doubted_at and self._was_refused(message):
            self._tried = True
            return stamped(message) if self.stamps else message
        return self._modest(message)

    def settle(self) -> None:
        """Notes that what was sent last was taken: where that was refused before, the topic takes more now."""
        if self._tried:
            self._forget()
            log.info("topic takes what it refused before", topic=self._topic)

    def learn(self, sent: Outgoing, fault: Fault) -> None:
        """Notes that the topic refused a message in this form."""
        self._doubted_at, self._tried = time.monotonic() + LASTS, False
        if fault.code() in TOO_LARGE:
            self._bytes = min(self._bytes, size(sent))
        elif fault.code() == Fault.INVALID_TIMESTAMP and sent.timestamp_ms != NO_TIME:
            self._learn_time(sent.timestamp_ms)
        elif fault.code() == Fault.INVALID_RECORD and sent.key is None:
            self._keyed = True
        else:
            self._give_up(sent, fault.str())

    def _forget(self) -> None:
        self._bytes = sys.maxsize
        self._ahead = self._behind = inf  # milliseconds
        self._keyed = self._timeless = self._tried = False
        self._doubted_at = inf

    def _modest(self, message: Outgoing) -> Outgoing | None:
        """Gives the form that needs nothing that was refused."""
        if self._is_off(message) or (self.stamps and message.timestamp_ms != NO_TIME):
            message = stamped(message)
        if self._timeless and not message.timestamp_ms:
            message = replace(message, timestamp_ms=NO_TIME)
        if self._keyed:
            message = keyed(message)
        return message if self._bytes == sys.maxsize else self._fitted(message)

    def _learn_time(self, timestamp_ms: int) -> None:
        ahead = timestamp_ms - _now()
        if not timestamp_ms:
            self._timeless = True
        elif ahead > 0:
            self._ahead = min(self._ahead, WIDER * ahead)
        else:
            self._behind = min(self._behind, -WIDER * ahead)

    def _was_refused(self, message: Outgoing) -> bool:
        nameless = self._keyed and message.key is None
        return nameless or size(message) >= self._bytes or self._is_off(message)

    def _is_off(self, message: Outgoing) -> bool:
        ahead = message.timestamp_ms - _now()
        return message.timestamp_ms not in {0, NO_TIME} and (ahead >= self._ahead or -ahead >= self._behind)

    def _fitted(self, message: Outgoing) -> Outgoing | None:
        if size(message) < self._bytes:
            return message
        form = fitted(message, next((most for most in SIZES if most < self._bytes), SIZES[-1]))
        if size(form) < self._bytes:
            return form
        self._give_up(message, f"{self._bytes:,} bytes are too many")
        return None

    def _give_up(self, message: Outgoing, why: str) -> None:
        log.error("message left out, its topic takes it in no form", topic=self._topic, record=message.id, why=why)
        self._hopeless[message.id] = None
        if len(self._hopeless) > REMEMBERED:
            self._hopeless.popitem(last=False)


def size(message: Outgoing) -> int:
    """Counts the bytes on the broker of a message alone in its batch, uncompressed; a few too many at most."""
    return BATCH_BYTES + len(message.key or b"") + len(message.value or b"") + _bytes_of(message.headers)


def stamped(message: Outgoing) -> Outgoing:
    """Gives a message the time of sending; its own time goes into a header."""
    if not message.timestamp_ms:
        return message
    stamp = STAMP, str(message.timestamp_ms).encode()
    return replace(message, timestamp_ms=0, headers=(*message.headers, stamp))


def keyed(message: Outgoing) -> Outgoing:
    """Gives a message its id for a key, when it has none."""
    return message if message.key is not None else replace(message, key=message.id.encode())


def fitted(message: Outgoing, most: int) -> Outgoing:
    """Cuts a message to `most` bytes and describes in headers what was cut; it stays larger when nothing helps."""
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
    """Cuts a key or value to what fits with the headers that describe what it was."""
    if part is None or len(part) <= most:
        return part, []
    about: list[Header] = [
        (f"{TRUNCATED}{name}bytes", str(len(part)).encode()),
        (f"{TRUNCATED}{name}sha256", sha256(part).hexdigest().encode()),
    ]
    return part[: max(0, most - _bytes_of(about))], about


def _kept(message: Outgoing, room: int) -> tuple[list[Header], list[Header]]:
    """Keeps the original's headers that fit, in their order, and counts the others in a header."""
    kept: list[Header] = []
    theirs = [] if message.structured else [header for header in message.headers if not _is_ours(header[0])]
    for header in theirs:
        if _bytes_of([header]) <= room:
            room -= _bytes_of([header])
            kept.append(header)
    left_out = len(theirs) - len(kept)
    return kept, [(TRUNCATED + "headers", str(left_out).encode())] if left_out else []


def _shorter(value: bytes, most: int) -> bytes:
    """Drops the ends of a JSON object's lists, so that it fits; `left_out` says how many are missing."""
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


def _now() -> int:
    return int(time.time() * 1000)
