"""What a worker waits for before it can begin."""

from collections.abc import Callable
from threading import Event

from stream_detector.config import Config
from stream_detector.health import Health
from stream_detector.kafka import topics
from stream_detector.kafka.clients import Batching, require_broker, slot, transactional_producer
from stream_detector.kafka.group import Beside
from stream_detector.kafka.retry import Retry
from stream_detector.worker.output.transaction import Transaction

__all__ = ["await_topics", "transaction", "written"]

ANSWER = 5.0  # seconds that a broker has for its first answer, at each attempt


def await_topics(config: Config, health: Health, stop: Event) -> bool:
    """Waits until the broker and all topics are there, for `worker.unavailable_timeout_ms`; False when told to stop.

    Raises a `KafkaError` that names what is missing.
    """

    def look() -> bool:
        require_broker(config.kafka, ANSWER)
        topics.require(config.kafka, (*config.topics.telemetry, *written(config)))
        return True

    retry = Retry.of(config.worker, "starting", health)
    return bool(retry.run(look, stop))


def transaction(config: Config, health: Health, beside: Beside, batching: Callable[[], Batching]) -> Transaction:
    """Makes this worker's transactions, which commit what `beside` tells with an offset; nothing is connected yet.

    `batching` is asked for each producer.
    """
    return Transaction(
        lambda on_error, on_stats: transactional_producer(
            config, on_error=on_error, on_stats=on_stats, batching=batching()
        ),
        config.worker.transaction_timeout_ms / 1000,
        slot(config.kafka),
        health.beat,
        beside,
    )


def written(config: Config) -> tuple[str, ...]:
    """Names the topics that a worker writes to."""
    return config.topics.alerts, config.topics.dead_letters, *((config.topics.control,) * config.drift.enabled)
