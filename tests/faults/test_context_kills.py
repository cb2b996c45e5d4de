"""Workers that judge by what entities did before are killed under load, and change their model: no alert is another."""

import random
import time
from contextlib import contextmanager

import pytest
from context_runs import RECORDS, drain, neutral, told
from processes import Process
from workload import (
    IMPATIENT,
    THRESHOLD,
    committed,
    contextual_model,
    ends,
    entity_telemetry,
    feed,
    fresh_config,
    published,
    slotted,
    until,
)

from stream_detector.audit.backtest import backtest
from stream_detector.audit.replay import replay
from stream_detector.registry import store

VALUES = list(entity_telemetry(RECORDS, anomalies=0.02))
SWAP = RECORDS // 2
BEFORE = round(time.time() * 1000)  # Kafka's timestamps of the two parts, for backtests of each
AFTER = BEFORE + 3_600_000
SEEDS = 2  # of each number of workers from 1 to 3
REPLAYED = 2  # alerts of each run
NONE = lambda *_: None  # noqa: E731 - progress that nobody looks at


def models():
    """The model that serves first, and the one with another context that takes over."""
    return contextual_model(), contextual_model(1, epoch=200, history=80)


@pytest.fixture(scope="module")
def expected(broker):
    """The alerts of one worker that nothing happens to, under the first model and then under the next."""
    config = fresh_config(broker, threshold=THRESHOLD)
    for model, values, stamp in zip(models(), (VALUES[:SWAP], VALUES[SWAP:]), (BEFORE, AFTER), strict=True):
        feed(config, values, timestamp=stamp)
        drain(config, model, batch_records=2_000)
    found = told(config)
    assert {alert["model_version"] for alert in found.values()} == {model.version for model in models()}
    return neutral(config, found)


class Fleet:
    """Worker processes of one group, of which any may be killed; another begins in its place at once."""

    def __init__(self, config, count, folder, rng):
        self._config, self._folder, self._rng = config, folder, rng
        self._workers = [self._begun(f"{config.kafka.slot}-{at}") for at in range(count)]

    def _begun(self, slot):
        batch = self._rng.choice((32, 64, 200))
        return Process(slotted(self._config, slot, batch_records=batch), slot, self._folder)

    def feed(self, values, stamp, kills):
        """Feeds values in slices; between them workers are killed at random moments."""
        size = len(values) // 10 // 3 * 3
        slices = [values[first : first + size] for first in range(0, len(values), size)]
        fatal = self._rng.sample(range(len(slices)), kills)
        for at, part in enumerate(slices):
            feed(self._config, part, timestamp=stamp)
            time.sleep(self._rng.uniform(0.0, 0.4))
            if at in fatal:
                self._kill(self._rng.randrange(len(self._workers)))
        until(lambda: committed(self._config) == ends(self._config), "all is committed", timeout=120)

    def await_model(self, version):
        """Waits until every worker says that it has taken up this model."""
        until(lambda: all(version in worker.log for worker in self._workers), "all serve the next model", timeout=120)

    def _kill(self, at):
        self._workers[at].kill()
        self._workers[at] = self._begun(self._workers[at].slot)

    def end(self):
        for worker in self._workers:
            worker.kill()


@contextmanager
def fleet(*arguments):
    workers = Fleet(*arguments)
    try:
        yield workers
    finally:
        workers.end()


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_kills_and_a_change_of_the_model_change_no_alert(broker, expected, tmp_path, count, seed):
    """All fields but the detection time are those of one undisturbed worker; backtests of both parts and replays agree."""
    rng = random.Random(10 * count + seed)
    config = fresh_config(broker, threshold=THRESHOLD, worker=IMPATIENT)
    versions = published(config, *models())
    with fleet(config, count, tmp_path, rng) as workers:
        workers.feed(VALUES[:SWAP], BEFORE, kills=2)
        store.promote(config, versions[1], "test", "the next model")
        workers.await_model(versions[1])
        workers.feed(VALUES[SWAP:], AFTER, kills=2)
    found = told(config)
    assert neutral(config, found) == expected
    for model, span in zip(models(), ((0, AFTER), (AFTER, None)), strict=True):
        compared = backtest(config, model, *span, NONE)
        assert (compared.added, compared.lost, compared.records) == ([], [], SWAP)
    for name in rng.sample(sorted(found), REPLAYED):
        done = replay(config, name)
        assert (done.differences, done.judgement.in_context) == ([], True), name
