"""One record, sent and acknowledged."""

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException

from stream_detector.config import KafkaConfig
from stream_detector.errors import BrokerUnavailableError
from stream_detector.kafka.clients import plain_producer, translate

__all__ = ["send"]

TIMEOUT = 30.0  # seconds


def send(kafka: KafkaConfig, topic: str, key: bytes, value: bytes) -> None:
    """Returns once all in-sync replicas have the record; raises a `KafkaError` when they do not."""
    faults: list[Fault | None] = []
    producer = plain_producer(kafka)
    subject = f"topic {topic!r}, record {key.decode(errors='replace')!r:.300}"
    try:
        producer.produce(topic, value, key, on_delivery=lambda fault, _: faults.append(fault))
    except KafkaException as error:  # larger than any message of ours may be
        raise translate(error, subject) from None
    producer.flush(TIMEOUT)
    if not faults:
        raise BrokerUnavailableError(f"{subject}: not acknowledged within {TIMEOUT:.0f} s; check that the broker runs")
    if faults[0] is not None:
        raise translate(KafkaException(faults[0]), subject)
