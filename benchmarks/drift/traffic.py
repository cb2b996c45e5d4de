"""The live stream: a simulated fleet with labelled faults, sent at a rate, and a release in its middle."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from threading import Event

from producers.faults import Fault
from producers.feed import Message, publish
from producers.simulator import Sample, Simulation, simulate
from stream_detector.config import Config

__all__ = ["Script", "Traffic", "step_of"]

ENTITIES = 20  # of which no partition has all
PERIOD = 48  # steps a day
FAULTS = 0.7  # per 1,000 records
TICK = 0.02  # seconds; sleeping for each record would cap the rate


@dataclass(frozen=True, slots=True)
class Script:
    """How many records there are before the first fault, from there to the release, and after the last swap."""

    seed: int = 0
    normal: int = 8_000
    before: int = 40_000
    after: int = 40_000
    rate: float = 1_000.0  # records/s

    @property
    def release_step(self) -> int:
        """The step of every entity from which the new release runs."""
        return -(-(self.normal + self.before) // ENTITIES)

    def samples(self) -> Iterator[Sample]:
        """The stream, endless."""
        return simulate(
            Simulation(
                self.seed,
                entities=ENTITIES,
                period=PERIOD,
                faults=FAULTS,
                normal_first=self.normal,
                release=self.release_step * ENTITIES,
            )
        )


@dataclass(slots=True)
class Traffic:
    """What is sent; `labels` are the faults by the ids of their records, which no one else is told."""

    script: Script
    labels: dict[str, Fault] = field(default_factory=dict)
    sent: int = 0
    _samples: Iterator[Sample] | None = None

    def begin(self, config: Config) -> None:
        """Sends the normal records, as fast as can be."""
        self._samples = self.script.samples()
        publish(self._messages(islice(self._samples, self.script.normal)), config.kafka, config.topics.telemetry[0])

    @contextmanager
    def running(self, config: Config) -> Iterator[Future[int]]:
        """Sends the rest at its rate from a thread, until the block is left and a whole step is sent."""
        assert self._samples is not None, "it has begun"
        stop = Event()
        messages = self._messages(_paced(self._samples, self.script.rate, stop))
        with ThreadPoolExecutor(1, thread_name_prefix="traffic") as pool:
            try:
                sending = pool.submit(publish, messages, config.kafka, config.topics.telemetry[0])
                yield sending
            finally:
                stop.set()
            sending.result()

    def _messages(self, samples: Iterator[Sample]) -> Iterator[Message]:
        for sample in samples:
            if sample.fault:
                self.labels[sample.id] = sample.fault
            self.sent += 1
            yield sample.entity.encode(), sample.to_json()


def step_of(record_id: str) -> int:
    """The step that the id of a simulated record names."""
    return int(record_id.rpartition("-")[2])


def _paced(samples: Iterator[Sample], rate: float, stop: Event) -> Iterator[Sample]:
    """The samples as they are due, ending after a whole step; what a slow machine misses is caught up with."""
    start = time.monotonic()
    for count in range(0, 2**62, ENTITIES):
        early = start + count / rate - time.monotonic()
        if early > TICK:
            time.sleep(early)
        if stop.is_set():
            return
        yield from islice(samples, ENTITIES)
