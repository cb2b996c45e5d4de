"""Judges a worker's batches, and finds the record that makes a step fail.

Whatever raises for one record is that record's disposition, a dead letter. A record is blamed where it
fails by itself and the model still judges its golden batch; where that fails, too, no record is to blame.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce

import numpy as np
import structlog

from stream_detector.config import Config
from stream_detector.context.context_model import ContextModel
from stream_detector.context.epochs import PartitionContext
from stream_detector.contexts import NO_CONTEXTS, Contexts
from stream_detector.detector import Begun, Outcome, begin, detect, finish, history, learn, limits
from stream_detector.errors import ModelError, StreamDetectorError
from stream_detector.features import Rejection
from stream_detector.kafka.formats import decoder
from stream_detector.model import DetectorModel
from stream_detector.records import Alert, Arrivals, DeadLetter, Message, TooMuchAtOnce, TopicPartition
from stream_detector.scoring.threshold import FLAG_ALL, RollingThreshold
from stream_detector.scoring_pool import ScoringPool

__all__ = ["FIRST", "BatchLimit", "Judge"]

MANY_AT_ONCE = 32  # messages that may hold thousands of records each
REMEMBERED = 2**17  # records set aside of a partition, the last ones; more than a batch holds
FIRST = 16_384  # records a batch at first
BRIEF = 0.15  # seconds: a batch of twice the records still does not last long, and has half of the commits
CALM = 32  # full batches without trouble before the limit grows again
CALMEST = 4_096  # the same after trouble that keeps coming back, at most
POISON = Rejection("scoring-error", "the model fails on this record")

Thresholds = Mapping[TopicPartition, RollingThreshold]
RecordId = tuple[str, int, int]

log = structlog.get_logger(__name__)


class BatchLimit:
    """Says how many messages to take at once: at most `most` records; `dense` is the most records that a message may hold."""

    def __init__(self, most: int, dense: int = 1) -> None:
        self._most = self._cap = most
        self._records = self._reached = min(most, FIRST)
        self._per_message = float(dense)
        self._calm, self._needed = 0, CALM

    @property
    def messages(self) -> int:
        """How many messages to take at once, by how many records the last ones held."""
        return max(1, min(self._cap, int(self._records / self._per_message)))

    def lower(self, messages: int) -> None:
        """Allows half of a batch of so many messages, which was too much."""
        self._records = max(1, int(messages * self._per_message) // 2)
        self._calm, self._needed = 0, min(2 * self._needed, CALMEST)

    def crowded(self, messages: int, enough: int) -> None:
        """Allows at most `enough` messages, after a batch of `messages` that held too much to be decoded together."""
        self._cap, self._calm = max(1, min(enough, messages // 2)), 0

    def passed(self, messages: int, records: int, *, judged: bool = True) -> None:
        """Notes a batch that went well; `records` include unusable ones. Only batches that were `judged` let the limit grow."""
        full = messages >= self.messages
        self._per_message = max(1.0, records / messages, self._per_message / 2)  # thin messages may precede thick ones
        if full and judged and (self._records < self._reached or self._cap < self._most):
            self._calm += 1
            if self._calm >= self._needed:
                self._records, self._calm = min(2 * self._records, self._reached), 0
                self._cap = min(2 * self._cap, self._most)

    def lasted(self, seconds: float) -> None:
        """Allows more where a turn under backlog took few seconds; after trouble the limit grows by `passed` alone."""
        if seconds < BRIEF and self._records == self._reached:
            self._records = self._reached = min(2 * self._reached, self._most)


class Judge:
    """Judges batches with one model; `batch_limit` is told how long they take."""

    def __init__(self, model: DetectorModel, config: Config) -> None:
        self.model = model
        self.limits = limits(model, config.threshold)
        self._decoder = decoder(config.record)
        self._pool = ScoringPool()
        self.batch_limit = BatchLimit(config.worker.batch_records, config.record.max_rows if self._decoder.many else 1)
        self._quarantined: dict[TopicPartition, deque[int]] = defaultdict(partial(deque, maxlen=REMEMBERED))
        self._suspects: deque[RecordId] = deque(maxlen=REMEMBERED)

    @property
    def limit(self) -> int:
        """How many messages it takes at once at most."""
        return self.batch_limit.messages

    @property
    def context_model(self) -> ContextModel | None:
        """What the model makes of contexts; None where it judges records alone."""
        return self.model.context

    @property
    def lookback(self) -> int:
        """How many offsets to read at first when a threshold's window is to be filled."""
        return min(self.limits.window, MANY_AT_ONCE) if self._decoder.many else self.limits.window

    def begin(self, messages: Sequence[Message]) -> Begun:
        """Decodes a batch and has it scored; raises whatever a record or the device can make the model raise."""
        return begin(messages, self.model, self._decoder, self._pool)

    def judge(
        self,
        messages: Sequence[Message],
        thresholds: Thresholds,
        begun: Begun | None = None,
        beat: Callable[[], None] = lambda: None,
        contexts: Contexts = NO_CONTEXTS,
    ) -> Outcome | None:
        """Judges a batch, which may have been `begun`; returns None when it failed and the thresholds may have moved.

        Then the cause is removed, as `isolate` does, and the batch must be taken again from thresholds and contexts as
        before it, at most `limit` messages at once. `beat` is called meanwhile where a flood takes long.
        """
        try:
            outcome = self._judge_around(Arrivals.of(messages), thresholds, contexts, begun, beat)
        except StreamDetectorError:
            raise
        except TooMuchAtOnce as held:
            self.batch_limit.crowded(len(messages), held.messages)
            log.info("messages hold many records, taking fewer at once", messages=self.limit)
            return None
        except Exception as error:  # noqa: BLE001 - whatever a record or the device can make the model raise
            self.isolate(messages, error)
            return None
        self.batch_limit.passed(len(messages), outcome.records)
        return outcome

    def isolate(self, messages: Sequence[Message], error: Exception) -> None:
        """Removes the cause of an error on a batch's way from the log to the transaction, for the batch to be taken again.

        That is a record that fails by itself, or one that fails alone for the second time; else fewer are taken at
        once. Raises `ModelError` when the model fails on its golden batch, too, and `error` when nothing is left to try.
        """
        rest = [message for message in messages if not self._is_quarantined(message)]
        if not rest:
            raise error
        found = list(self._poisonous(rest)) or self._repeated(rest)
        if found:
            self._require_sound_model(error)
        for topic, partition, offset in map(_record_id, found):
            log.error("a record fails", topic=topic, partition=partition, offset=offset, error=repr(error))
            self._quarantined[topic, partition].append(offset)
        if not found and len(rest) > 1:
            self.lower_limit(len(messages))

    def scores(self, messages: Sequence[Message], context: PartitionContext | None = None) -> list[float]:
        """Scores the usable records of one partition, in order; a record that the model fails on has no score.

        They teach the `context`, where the model has one.
        """
        found: list[float] = []
        at = 0
        while at < len(messages):
            part = messages[at : at + self.limit]
            scores = self._scores(part, context)
            self.batch_limit.passed(len(part), len(scores), judged=False)
            found += scores
            at += len(part)
        return found

    def teach(self, messages: Sequence[Message], context: PartitionContext) -> None:
        """Has the usable records of one partition teach its context, in order; nothing is scored."""
        for at in range(0, len(messages), self.limit):
            learn(messages[at : at + self.limit], self.model, self._decoder, context)

    def account(self, message: Message, contexts: Contexts = NO_CONTEXTS) -> tuple[Alert, ...]:
        """Explains every record of a message as an alert does, whatever its threshold; raises `ModelError` when that fails."""
        try:
            return self._detected([message], contexts).alerts
        except StreamDetectorError:
            raise
        except Exception as error:
            raise ModelError(f"model {self.model.version[:12]} fails on {_record_id(message)}: {error!r}") from error

    def lower_limit(self, size: int) -> None:
        """Takes at most half of `size` messages at once until it goes well for a while."""
        self.batch_limit.lower(size)
        log.warning("batches are too large, taking fewer records at once", messages=self.limit)

    def take_at_most(self, messages: int) -> None:
        """Takes no more at once, until it goes well for a while."""
        if self.limit > messages:
            self.batch_limit.lower(2 * messages)

    def _scores(self, messages: Sequence[Message], context: PartitionContext | None) -> list[float]:
        try:
            return history(messages, self.model, self._decoder, context)
        except StreamDetectorError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            if len(messages) == 1:
                self._require_sound_model(error)
                if context:
                    self.teach(messages, context)
                return []
            half = len(messages) // 2
            return self._scores(messages[:half], context) + self._scores(messages[half:], context)

    def _judge_around(
        self,
        arrivals: Arrivals,
        thresholds: Thresholds,
        contexts: Contexts,
        begun: Begun | None,
        beat: Callable[[], None],
    ) -> Outcome:
        """Judges all but the quarantined messages, which become dead letters in their turn."""
        apart = self._apart(arrivals)
        if not apart:
            return finish(begun or self.begin(arrivals), thresholds, contexts, beat)
        outcomes: list[Outcome] = []
        first = 0
        for at in (*apart, len(arrivals)):
            if first < at:
                outcomes.append(finish(self.begin(arrivals[first:at]), thresholds, contexts, beat))
            outcomes += [self._bury(message, thresholds, contexts) for message in arrivals[at : at + 1]]
            first = at + 1
        return reduce(_joined, outcomes)

    def _apart(self, arrivals: Arrivals) -> list[int]:
        """Finds the quarantined messages in a batch."""
        found: list[int] = []
        for place, run in arrivals.runs if self._quarantined else ():
            if place in self._quarantined:
                apart = np.isin(arrivals.offsets[run], list(self._quarantined[place]))
                found += (run.start + np.flatnonzero(apart)).tolist()
        return found

    def _is_quarantined(self, message: Message) -> bool:
        topic, partition, offset = _record_id(message)
        return (topic, partition) in self._quarantined and offset in self._quarantined[topic, partition]

    def _bury(self, message: Message, thresholds: Thresholds, contexts: Contexts) -> Outcome:
        """Makes a dead letter; if the record has a score it joins the window, as in a threshold that is rebuilt."""
        place = message.topic() or "", message.partition() or 0
        thresholds[place].learn(self._scores([message], contexts.get(place)))
        return Outcome((), (DeadLetter.of(message, POISON),), 0)

    def _poisonous(self, messages: Sequence[Message]) -> Iterator[Message]:
        """Finds the messages that fail by themselves, and each of them twice, by halving."""
        if self._is_sound(messages):
            return
        if len(messages) == 1:
            if not self._is_sound(messages):
                yield messages[0]
            return
        half = len(messages) // 2
        yield from self._poisonous(messages[:half])
        yield from self._poisonous(messages[half:])

    def _repeated(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Finds a message that fails alone for the second time though it seems sound: what fails is not tried here."""
        if len(messages) > 1:
            return []
        if _record_id(messages[0]) in self._suspects:
            return messages
        self._suspects.append(_record_id(messages[0]))
        return []

    def _is_sound(self, messages: Sequence[Message]) -> bool:
        """Whether these messages can be judged, explained and told of, each as if it were flagged."""
        try:
            for alert in self._detected(messages).alerts:
                alert.to_json()
                alert.headers()
        except Exception:  # noqa: BLE001 - the very thing that is looked for
            return False
        return True

    def _detected(self, messages: Sequence[Message], contexts: Contexts = NO_CONTEXTS) -> Outcome:
        """Judges messages as if each were flagged; no partition's threshold moves, nor its context unless it is given."""
        places = {(message.topic() or "", message.partition() or 0) for message in messages}
        thresholds = {place: RollingThreshold(FLAG_ALL) for place in places}
        return detect(messages, self.model, thresholds, self._decoder, contexts)

    def _require_sound_model(self, error: Exception) -> None:
        """Raises `ModelError` when the model fails on the records that it came with, too."""
        try:
            self.model.verify()
        except Exception as failure:  # noqa: BLE001 - whatever the device can make it raise
            raise ModelError(
                f"model {self.model.version[:12]} fails, and on the records it came with as well ({failure!r}): no record is "
                f"at fault. Check memory and worker.device, then start again; what failed first: {error!r}"
            ) from error


def _record_id(message: Message) -> RecordId:
    return message.topic() or "", message.partition() or 0, message.offset() or 0


def _joined(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(
        one.alerts + other.alerts,
        one.dead_letters + other.dead_letters,
        one.normal + other.normal,
        one.judged + other.judged,
        one.read + other.read,
    )
