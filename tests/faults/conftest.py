"""Faults, injected from outside into real workers on a real broker."""

from pathlib import Path

import pytest
from workload import IMPATIENT, THRESHOLD, feed, fresh_config, left_by, slotted, small_model, telemetry

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.broker)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def brokers_start_quickly(quick_java):
    """Also those of other processes."""


@pytest.fixture(scope="session")
def values():
    """Telemetry with anomalies and with poison, enough that a fault always finds some on its way."""
    found = list(telemetry(9_000, seed=11, anomalies=0.03))
    found[40::89] = [b"poison"] * len(found[40::89])
    return found


@pytest.fixture
def config(broker):
    """Short timeouts, so that what is dead is noticed within seconds; the model is published."""
    from stream_detector.registry import store

    made = fresh_config(broker, threshold=THRESHOLD, worker=IMPATIENT)
    store.publish(made, small_model().to_bytes(), "test", "faults")
    return made


@pytest.fixture(scope="session")
def oracle(broker, values):
    """What one worker leaves that nothing happens to: alerts and dead letters by partition and offset."""
    from stream_detector.worker import loop

    config = fresh_config(broker, threshold=THRESHOLD)
    feed(config, values)
    loop.run(slotted(config, "oracle"), small_model, until_end=True)
    return left_by(config)
