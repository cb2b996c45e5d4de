"""Follows the model pointers beside the worker's loop, and makes the next model ready to take over.

A model is fetched, verified and its thresholds found in a thread of its own. When one is refused the
model in force stays; trouble with the broker is waited out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event, Lock, Thread

import structlog

from stream_detector.config import Config
from stream_detector.errors import KafkaError
from stream_detector.kafka import topics
from stream_detector.records import Message, TopicPartition
from stream_detector.registry.admission import Refusals, verified
from stream_detector.registry.model_pointer import SHADOW, Pointer, PointerWatch
from stream_detector.registry.suitability import check_against
from stream_detector.worker.judge import Judge
from stream_detector.worker.partitions.assignment import Assignment
from stream_detector.worker.partitions.restore import CaughtUp, LogReader, Past, catch_up

__all__ = ["Candidate", "ModelFollower"]

LOOK = 0.2  # seconds that one look at the pointer takes; also how soon the end is noticed
PAUSE = 2.0  # seconds after trouble with the broker
END = 10.0  # seconds that the end waits for the thread
SAMPLE = 200  # messages of a partition that a model's features are looked for in
ROUNDS = 3  # of finding thresholds: the first scores whole windows, the next what came meanwhile

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model about to take over, or to be compared: its judge, and the thresholds that partitions have under it.

    The thresholds are made ready beside the worker's loop. What is left for the moment of the change are the records
    judged since.
    """

    judge: Judge
    known: Mapping[TopicPartition, CaughtUp]


class ModelFollower:
    """Makes ready the models that come after the one in force, and candidates to score beside it."""

    def __init__(self, config: Config, assignment: Assignment, refusals: Refusals) -> None:
        self._config = config
        self._assignment = assignment
        self._refusals = refusals
        self._serving = assignment.judge.model.version
        self._seen: dict[bytes, Pointer | None] = {}
        self._lock = Lock()
        self._next: Candidate | None = None
        self._shadows: list[Candidate | None] = []
        self._trouble: str | None = None
        self._stop = Event()
        self._thread = Thread(target=self._follow, name="models", daemon=True)

    def start(self) -> None:
        """Begins to follow the pointers."""
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether a model waits to be taken."""
        return self._next is not None

    @property
    def trouble(self) -> str | None:
        """Why the pointers cannot be followed at present, such as a missing models topic or broker; None when they are."""
        return self._trouble

    def take(self) -> Candidate | None:
        """Hands out the model to go on with, once it is ready; each is handed out once."""
        with self._lock:
            candidate, self._next = self._next, None
            if candidate:
                self._serving = candidate.judge.model.version
        return candidate

    def take_shadows(self) -> list[Candidate | None]:
        """Hands out the candidates to compare since the last call, of which the last one counts; None ends the comparison."""
        with self._lock:
            shadows, self._shadows = self._shadows, []
        return shadows

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(END)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch()
            except Exception as error:  # noqa: BLE001 - whatever it is, it may not end the thread unseen
                if self._trouble is None:  # once; what it turns into, such as a topic half made, `trouble` tells
                    log.warning("the model pointer cannot be followed, trying again", why=str(error))
                self._trouble = str(error)
                self._stop.wait(PAUSE)

    def _watch(self) -> None:
        watch = PointerWatch(self._config, lambda unsound: self._refusals.note(None, unsound, self._serving))
        try:
            while not self._stop.is_set():
                moved = watch.poll(LOOK)
                if self._trouble is not None:
                    log.info("the model pointer is followed again")
                self._trouble = None
                for key, pointer in moved.items():
                    self._consider_moved(key, pointer)
        finally:
            watch.close()

    def _consider_moved(self, key: bytes, pointer: Pointer | None) -> None:
        """Considers a pointer that moved; a refused version that is pointed to anew gets another chance."""
        if pointer != self._seen.get(key):
            if key == SHADOW:
                self._consider_shadow(pointer)
            elif pointer is not None:
                self._consider(pointer)
            self._seen[key] = pointer

    def _consider(self, pointer: Pointer) -> None:
        """Makes a version ready, unless it is in force already."""
        with self._lock:
            self._next = None  # what was ready and not taken is not wanted any more
            self._refusals.standing = None
            serving = self._serving
        candidate = self._prepared(pointer) if pointer.version != serving else None
        with self._lock:
            self._next = candidate

    def _consider_shadow(self, pointer: Pointer | None) -> None:
        candidate = None
        if pointer is not None and pointer.version != self._serving:
            topics.require(self._config.kafka, [self._config.topics.shadow])
            candidate = self._prepared(pointer)
        with self._lock:
            self._shadows.append(candidate)

    def _prepared(self, pointer: Pointer) -> Candidate | None:
        """Makes a candidate with thresholds; None when the model is refused."""
        try:
            model = verified(self._config, pointer.version)
            check_against(model, self._recent(), self._config)
            candidate = self._caught_up(Judge(model, self._config))
        except KafkaError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an artifact or the device can raise
            self._refusals.note(pointer, error, self._serving)
            return None
        return candidate

    def _caught_up(self, judge: Judge) -> Candidate:
        known: dict[TopicPartition, CaughtUp] = {}
        for _ in range(ROUNDS):
            for partition, past in self._assignment.pasts().items():
                before = known.pop(partition, None)
                found = catch_up(judge, past, before) or self._from_log(judge, partition, past, before)
                if found:
                    known[partition] = found
        return Candidate(judge, known)

    def _from_log(
        self, judge: Judge, partition: TopicPartition, past: Past, before: CaughtUp | None
    ) -> CaughtUp | None:
        """Rebuilds from the log what a model with a context needs, up to the last message kept; None without one.

        It goes on from what was found `before`, where more was judged meanwhile than is kept. A partition that is left
        out here is restored from the log when the model is changed.
        """
        if judge.context_model is None or past.last is None:
            return None
        low = topics.watermarks(self._config.kafka, [partition[0]])[partition].low
        with LogReader(self._config.kafka) as reader:
            if before and before.last is not None and low <= before.last < past.last:
                return reader.continued(partition, before, past.last, judge)
            restored = reader.restored(partition, low, past.last + 1, judge)
        return CaughtUp(restored.threshold, past.last, restored.context)

    def _recent(self) -> list[Message]:
        """Samples the last messages of every partition."""
        return [message for past in self._assignment.pasts().values() for message in past.messages[-SAMPLE:]]
