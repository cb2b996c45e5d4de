"""Retraining as a service: by the clock, and on drift.

A retraining that is refused or goes wrong ends with one line in the log; the service goes on, the
model in force stays. One that was stopped in the middle goes on: at the service's next start, or when
the broker answers again.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event

import structlog

from stream_detector.config import Config
from stream_detector.errors import BrokerUnavailableError, ConfigError, KafkaError, StreamDetectorError
from stream_detector.gan.training import Progress
from stream_detector.retraining.job import RetrainingResult, Trigger, retrain
from stream_detector.retraining.triggers import Triggers

__all__ = ["interruptible", "serve"]

Bar = Callable[[], AbstractContextManager[Progress]]
LOOK = 1.0  # seconds between two looks at the clock and at drift
PAUSE = 10.0  # seconds more when the broker did not answer

MACHINE = (OSError, RuntimeError, MemoryError)  # a full disk, torch without memory: it may be better next time

log = structlog.get_logger(__name__)


def interruptible(progress: Progress, stop: Event) -> Progress:
    """Wraps `progress` so that its next report raises KeyboardInterrupt once `stop` is set."""

    def report(step: int, total: int, message: str) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        progress(step, total, message)

    return report


def serve(config: Config, who: str, stop: Event, bar: Bar, show: Callable[[RetrainingResult], None]) -> None:
    """Retrains whenever it is time to, until `stop` is set; `show` is given every result.

    Raises `ConfigError` when nothing would ever start a retraining, and a `KafkaError` when the
    topics cannot be read at the start; later it waits for the broker.
    """
    if config.retrain.every is None and not config.retrain.on_drift:
        raise ConfigError("retrain.every is null and retrain.on_drift false: nothing starts a retraining; set one")
    with Triggers(config) as triggers:
        while not stop.wait(LOOK):
            try:
                if (trigger := triggers.due()) is not None:
                    _retrain(config, trigger, who, stop, bar, show)
                    triggers.attempted()
            except KafkaError as error:
                log.warning("failed, trying again", why=str(error))
                triggers.interrupted()
                stop.wait(PAUSE)
            except KeyboardInterrupt:
                log.info("stopped in the middle of a retraining; it goes on at the next start")
                return


def _retrain(
    config: Config, trigger: Trigger, who: str, stop: Event, bar: Bar, show: Callable[[RetrainingResult], None]
) -> None:
    log.info("retraining", why=trigger.why)
    try:
        with bar() as progress:
            outcome = retrain(config, trigger, who, interruptible(progress, stop))
    except BrokerUnavailableError:
        raise
    except (StreamDetectorError, *MACHINE) as error:
        log.warning("no new model", why=" ".join(str(error).split()), kind=type(error).__name__)
        return
    show(outcome)
    if not outcome.gate.passed:
        log.warning("no new model", why=str(outcome.refusal()), kind="GateRefusedError")
