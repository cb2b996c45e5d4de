"""Clients: quiet, plain about what is wrong, and fenced as exactly-once demands."""

import subprocess
import sys

import pytest
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException

from stream_detector.config import KafkaConfig
from stream_detector.errors import (
    AuthorizationError,
    BrokerUnavailableError,
    FencedError,
    KafkaError,
    OffsetsLostError,
    TopicMissingError,
)
from stream_detector.kafka import clients, faults

NOWHERE = KafkaConfig(bootstrap_servers="127.0.0.1:1")


def test_unreachable_broker_is_one_plain_line(capfd):
    """Nothing at the address: one line names it and the remedy, and librdkafka keeps off stderr."""
    with pytest.raises(BrokerUnavailableError) as caught:
        clients.require_broker(NOWHERE, timeout=1)

    message = str(caught.value)
    assert "127.0.0.1:1" in message
    assert "kafka.bootstrap_servers" in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")
    assert not clients.reachable(NOWHERE, timeout=0.5)


def test_clients_keep_off_stderr():
    """A program that has set up no logging sees nothing from librdkafka, however the broker fails."""
    script = """
from stream_detector.config import KafkaConfig
from stream_detector.kafka.clients import plain_producer
producer = plain_producer(KafkaConfig(bootstrap_servers="127.0.0.1:1"))
for _ in range(10):
    producer.poll(0.1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("", "")


def test_reachable_broker_is_found(make_config):
    """A broker that answers passes."""
    clients.require_broker(make_config(create=False).kafka)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Fault._TRANSPORT, BrokerUnavailableError),
        (Fault.UNKNOWN_TOPIC_OR_PART, TopicMissingError),
        (Fault.TOPIC_AUTHORIZATION_FAILED, AuthorizationError),
        (Fault._FENCED, FencedError),
        (Fault._AUTO_OFFSET_RESET, OffsetsLostError),
        (Fault.MSG_SIZE_TOO_LARGE, KafkaError),
    ],
)
def test_faults_become_our_errors(code, kind):
    """A librdkafka error, raised or handed over, becomes ours, with its subject and a remedy."""
    for error in (Fault(code), KafkaException(Fault(code))):
        translated = faults.translate(error, "topic 'x'")

        assert type(translated) is kind
        assert str(translated).startswith("topic 'x': ")
        assert faults.REFUSED.get(code, faults.REMEDIES[kind]) in str(translated)


def test_same_slot_fences_the_older_producer(make_config):
    """A second worker under the same slot ends the first one's transactions."""
    config = make_config()
    old, new = clients.transactional_producer(config), clients.transactional_producer(config)
    old.init_transactions(30)
    old.begin_transaction()
    old.produce(config.topics.alerts, b"zombie")
    old.flush(10)
    new.init_transactions(30)

    with pytest.raises(KafkaException) as caught:
        old.commit_transaction()

    assert type(faults.translate(caught.value, "slot")) is FencedError


def test_slots_do_not_fence_each_other(make_config):
    """Workers of one group with different slots commit side by side."""
    config = make_config()
    other = config.model_copy(update={"kafka": config.kafka.model_copy(update={"slot": "another"})})
    producers = [clients.transactional_producer(c) for c in (config, other)]
    for producer in producers:
        producer.init_transactions(30)
        producer.begin_transaction()
    for producer in producers:
        producer.produce(config.topics.alerts, b"x")
        producer.commit_transaction()


def test_worker_is_told_rather_than_moved(make_config, produce):
    """Without a committed offset the worker's consumer reports it and does not jump silently."""
    config = make_config(topics={"partitions": 1})
    produce(config, config.topics.telemetry[0], [b"1", b"2"])
    consumer = clients.worker_consumer(config)
    consumer.subscribe(list(config.topics.telemetry))

    message = consumer.poll(20)

    assert message.error().code() == Fault._AUTO_OFFSET_RESET
    consumer.close()


def test_statistics_and_errors_reach_their_callbacks(make_config):
    """The producer hands statistics and errors to whom asked for them."""
    heard = []
    producer = clients.transactional_producer(make_config(create=False), on_stats=heard.append)
    producer.init_transactions(30)
    for _ in range(100):
        producer.poll(0.1)
        if heard:
            break

    assert '"txmsgs"' in heard[0]


def test_own_properties_pass_through_and_secrets_do_not_show():
    """`kafka.properties` and the password reach the client; neither shows in the configuration's text."""
    kafka = KafkaConfig(properties={"sasl.mechanism": "PLAIN", "ssl.key.password": "hush"}, sasl_password="secret")

    properties = clients.common(kafka)

    assert properties["sasl.mechanism"] == "PLAIN"
    assert properties["sasl.password"] == "secret"
    assert "secret" not in repr(kafka)
    assert "hush" not in repr(kafka)
