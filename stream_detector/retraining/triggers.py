"""Tells when to retrain: by the clock, on drift, and to end what was interrupted."""

from datetime import UTC, datetime
from math import ceil
from typing import Self

import structlog

from stream_detector.config import Config
from stream_detector.kafka import recent
from stream_detector.kafka.control import ControlWatch
from stream_detector.records.control_events import ControlEvent
from stream_detector.registry import store
from stream_detector.retraining.job import Trigger
from stream_detector.retraining.run import last_ended, unfinished
from stream_detector.retraining.telemetry_window import ArrivalCounter

__all__ = ["Triggers"]

log = structlog.get_logger(__name__)


class Triggers:
    """Says when it is time to retrain; asked again and again by one thread, used as a context manager.

    Drift counts while the model under which it was noticed is in force. It is acted on with records
    from the drift on, as soon as there are enough of them, and again after every cool-down until
    another model serves: with more records a retraining may pass that was refused.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        pointer = store.current(config)
        moved = pointer.moment if pointer else None
        self._attempted = last_ended(config)  # so that a service that is started again keeps its cool-down
        self._moved = moved
        self._drift: ControlEvent | None = None
        self._arrivals = ArrivalCounter(config, 0)
        self._interrupted = True  # perhaps; the first look tells
        since_ms = int(moved.timestamp() * 1000) if moved else None
        self._watch = ControlWatch(config, since_ms) if config.retrain.on_drift else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.close()

    def attempted(self) -> None:
        """Notes that a retraining has ended, in whatever way."""
        self._attempted = datetime.now(UTC)

    def interrupted(self) -> None:
        """Notes that a retraining may have been cut short; then it goes on."""
        self._interrupted = True

    def due(self) -> Trigger | None:
        """The trigger to retrain now; None while there is none."""
        if self._interrupted:
            going_on = self._unfinished()
            self._interrupted = False
            if going_on:
                return Trigger("interrupted before")
        return self._drifted() or self._scheduled()

    def _unfinished(self) -> bool:
        """Tells whether there is a run to go on with under the model in force."""
        pointer = store.current(self._config)
        with unfinished(self._config, pointer.version if pointer else store.NOTHING) as found:
            return found is not None

    def _scheduled(self) -> Trigger | None:
        """The trigger of the clock, once the model in force and the last attempt are as old as `retrain.every`."""
        every = self._config.retrain.every
        if every is None or self._young(self._moved, every.total_seconds()):
            return None
        if self._young(self._attempted, every.total_seconds()):
            return None
        pointer = store.current(self._config)
        self._moved = pointer.moment if pointer else None
        return None if self._young(self._moved, every.total_seconds()) else Trigger(f"retrain.every: {every}")

    def _drifted(self) -> Trigger | None:
        """The trigger of drift, once it was noticed, the cool-down is over, and enough records have come since."""
        if self._watch is None:
            return None
        for event in self._watch.poll():
            self._take(event)
        if self._drift is None or self._young(self._attempted, self._config.retrain.cooldown.total_seconds()):
            return None
        if not self._arrivals.reach(self._wanted()):
            return None
        event = self._drift
        if not self._in_force(event):
            self._drift = None
            return None
        return Trigger(f"{event.kind} at {event.record}: {event.detector} on {event.stream}", self._arrivals.since_ms)

    def _take(self, event: ControlEvent) -> None:
        """Keeps the first event under the model in force; records from there on are of the new kind.

        From dead letters nothing can be learnt.
        """
        if event.detector == "dead-letters":
            return
        if self._drift is not None or event.topic not in self._config.topics.telemetry or not self._in_force(event):
            return
        self._drift = event
        at = {(event.topic, event.partition): (event.offset, event.offset + 1)}
        times = [message.timestamp()[1] for batch in recent.records(self._config, at) for message in batch]
        noticed_ms = int(event.noticed.timestamp() * 1000)
        since_ms = (
            min(max(times[0], 0), noticed_ms) if times else noticed_ms
        )  # a record bears any time its writer likes
        self._arrivals = ArrivalCounter(self._config, since_ms)
        log.info("drift", record=event.record, detector=event.detector, stream=event.stream, wanted=self._wanted())

    def _in_force(self, event: ControlEvent) -> bool:
        pointer = store.current(self._config)
        return pointer is not None and pointer.version == event.model

    def _wanted(self) -> int:
        """The number of records of which enough are normal, even where the greatest allowed share is doubtful."""
        settings = self._config.retrain
        return min(settings.records, ceil(1.1 * settings.least_records / (1 - settings.most_doubtful)))

    @staticmethod
    def _young(moment: datetime | None, seconds: float) -> bool:
        return moment is not None and (datetime.now(UTC) - moment).total_seconds() < seconds
