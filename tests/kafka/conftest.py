"""Everything in this directory needs a real broker."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.broker)


@pytest.fixture(scope="session", autouse=True)
def brokers_start_quickly(quick_java):
    """Also those of other processes."""


@pytest.fixture
def produce(make_config):
    """`produce(config, topic, values, partition=0, keys=None)`: writes records and waits until all are acknowledged."""
    from stream_detector.kafka.clients import plain_producer

    def write(config, topic, values, partition=0, keys=None):
        producer = plain_producer(config.kafka)
        faults = []
        for value, key in zip(values, keys or [None] * len(values), strict=True):
            producer.produce(topic, value, key, partition, on_delivery=lambda fault, _: faults.append(fault))
            producer.poll(0)
        producer.flush(30)
        assert faults == [None] * len(values)

    return write
