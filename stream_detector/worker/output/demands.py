"""What a topic demands of its messages, as far as its refusals tell."""

import sys
import time
from collections import OrderedDict
from dataclasses import replace
from math import inf

import structlog
from confluent_kafka import KafkaError as Fault

from stream_detector.worker.output.forms import Outgoing, fitted, keyed, size, stamped
from stream_detector.worker.output.producer import NO_TIME

__all__ = ["TOO_LARGE", "Demands"]

SIZES = (65_536, 16_384, 8_192, 4_096, 2_048, 960, 640, 480)  # bytes to try one after the other
WIDER = 0.5  # of a time that was refused: what is nearer to now is still tried as it is
LASTS = 600.0  # seconds that a refusal is believed
REMEMBERED = 131_072  # messages refused in every form: more than a transaction holds
TOO_LARGE = frozenset({Fault.MSG_SIZE_TOO_LARGE, Fault.RECORD_LIST_TOO_LARGE})

log = structlog.get_logger(__name__)


class Demands:
    """What one topic has refused, as long as its worker lasts.

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
        """The form to send a message in: as it is unless that was refused; None when no form is left."""
        if message.id in self._hopeless:
            return None
        if time.monotonic() >= self._doubted_at and self._was_refused(message):
            self._tried = True
            return stamped(message) if self.stamps else message
        return self._modest(message)

    def settle(self) -> None:
        """What was sent last was taken: where that was refused before, the topic takes more now."""
        if self._tried:
            self._forget()
            log.info("topic takes what it refused before", topic=self._topic)

    def learn(self, sent: Outgoing, fault: Fault) -> None:
        """Takes note that the topic refused a message in this form."""
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
        """The form that asks for nothing that was refused."""
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


def _now() -> int:
    return int(time.time() * 1000)
