"""The record road for the worker: what happens when a record makes the scorer fail."""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import groupby

import structlog

from stream_detector.config import Config
from stream_detector.detector import Begun, Outcome, begin, detect, finish, history, limits
from stream_detector.errors import StreamDetectorError
from stream_detector.features import Rejection
from stream_detector.kafka.batch_limit import BatchLimit
from stream_detector.kafka.formats import decoder
from stream_detector.model import DetectorModel
from stream_detector.records import Alert, DeadLetter, Message
from stream_detector.scoring.threshold import FLAG_ALL, RollingThreshold

__all__ = ["Judge"]

MANY_AT_ONCE = 32  # messages that may hold thousands of records each
POISON = Rejection("scoring-error", "the model fails on this record")

Thresholds = Mapping[tuple[str, int], RollingThreshold]
Place = tuple[str | None, int | None, int | None]

log = structlog.get_logger(__name__)


class Judge:
    """Judges batches with one model."""

    def __init__(self, model: DetectorModel, config: Config) -> None:
        self.model = model
        self.limits = limits(model, config.threshold)
        self._decoder = decoder(config.record)
        self._limit = BatchLimit(config.worker.batch_records, config.record.max_rows if self._decoder.many else 1)
        self._quarantined: set[Place] = set()

    @property
    def limit(self) -> int:
        """The most messages it takes at once."""
        return self._limit.messages

    @property
    def lookback(self) -> int:
        """How many offsets to read at first when a threshold's window is to be filled."""
        return min(self.limits.window, MANY_AT_ONCE) if self._decoder.many else self.limits.window

    def begin(self, messages: Sequence[Message]) -> Begun:
        """Decodes a batch and has it scored; raises whatever a record or the device can make the model raise."""
        return begin(messages, self.model, self._decoder)

    def judge(self, messages: Sequence[Message], thresholds: Thresholds, begun: Begun | None = None) -> Outcome | None:
        """The batch's outcome, of what was `begun` if it was; None when it failed and the thresholds may have moved.

        Then the cause is removed (a poisonous record quarantined, or `limit` lowered) and the batch
        must be taken again from thresholds as before it. Raises when one record fails for no
        reason of its own.
        """
        try:
            outcome = self._judge_around(messages, thresholds, begun)
        except StreamDetectorError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a record or the device can make the model raise
            self._isolate(messages, error)
            return None
        self._limit.passed(len(messages), outcome.records)
        return outcome

    def scores(self, messages: Sequence[Message]) -> list[float]:
        """The scores of the usable records, in order; a poisonous one has none."""
        found: list[float] = []
        at = 0
        while at < len(messages):
            part = messages[at : at + self.limit]
            scores = self._scores(part)
            self._limit.passed(len(part), len(scores))
            found += scores
            at += len(part)
        return found

    def account(self, message: Message) -> tuple[Alert, ...]:
        """Every record of a message as an alert tells it, whatever its threshold."""
        place = message.topic() or "", message.partition() or 0
        return detect([message], self.model, {place: RollingThreshold(FLAG_ALL)}, self._decoder).alerts

    def heed_turn(self, seconds: float) -> None:
        """Takes more at once where a turn under backlog is brief."""
        self._limit.lasted(seconds)

    def lower_limit(self, size: int) -> None:
        """Takes at most half of `size` messages at once until it goes well for a while."""
        self._limit.lower(size)
        log.warning("batches are too large, taking fewer records at once", messages=self.limit)

    def _scores(self, messages: Sequence[Message]) -> list[float]:
        try:
            return history(messages, self.model, self._decoder)
        except StreamDetectorError:
            raise
        except Exception:  # noqa: BLE001 - as above
            if len(messages) == 1:
                return []
            half = len(messages) // 2
            return self._scores(messages[:half]) + self._scores(messages[half:])

    def _judge_around(self, messages: Sequence[Message], thresholds: Thresholds, begun: Begun | None) -> Outcome:
        """The road for all but the quarantined, which become dead letters in their turn."""
        if not self._quarantined:
            return finish(begun or self.begin(messages), thresholds)
        outcome = Outcome((), (), 0)
        for poisonous, run in groupby(messages, lambda message: _place(message) in self._quarantined):
            if poisonous:
                parts = [self._bury(message, thresholds) for message in run]
            else:
                parts = [detect(list(run), self.model, thresholds, self._decoder)]
            outcome = reduce(_joined, parts, outcome)
        return outcome

    def _bury(self, message: Message, thresholds: Thresholds) -> Outcome:
        """A dead letter; if the record has a score it stays in the window, as a rebuild would find it."""
        thresholds[message.topic() or "", message.partition() or 0].learn(self._scores([message]))
        return Outcome((), (DeadLetter.of(message, POISON),), 0)

    def _isolate(self, messages: Sequence[Message], error: Exception) -> None:
        found = list(self._poisonous(messages))
        for message in found:
            topic, partition, offset = _place(message)
            log.error(
                "a record makes the model fail", topic=topic, partition=partition, offset=offset, error=repr(error)
            )
        if not found and len(messages) == 1:
            raise error
        if not found:
            self.lower_limit(len(messages))
        self._quarantined.update(map(_place, found))

    def _poisonous(self, messages: Sequence[Message]) -> Iterator[Message]:
        """The messages that fail by themselves, found by halving; each is scored and explained."""
        if self._is_sound(messages):
            return
        if len(messages) == 1:
            yield messages[0]
            return
        half = len(messages) // 2
        yield from self._poisonous(messages[:half])
        yield from self._poisonous(messages[half:])

    def _is_sound(self, messages: Sequence[Message]) -> bool:
        places = {(message.topic() or "", message.partition() or 0) for message in messages}
        try:
            detect(messages, self.model, {place: RollingThreshold(FLAG_ALL) for place in places}, self._decoder)
        except Exception:  # noqa: BLE001 - the very thing that is looked for
            return False
        return True


def _place(message: Message) -> Place:
    return message.topic(), message.partition(), message.offset()


def _joined(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(
        one.alerts + other.alerts,
        one.dead_letters + other.dead_letters,
        one.normal + other.normal,
        one.judged + other.judged,
    )
