"""What goes wrong around a worker is told by its health, named, and told no more once it is over."""

import os
import signal
import threading
import time

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from workload import IMPATIENT, Running, feed, fresh_config, published, small_model, telemetry, until

from stream_detector.health import Health
from stream_detector.kafka import topics
from stream_detector.kafka.clients import admin
from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.registry import store
from stream_detector.worker.judge import Judge

THRESHOLD = {"window": 500, "warmup": 100, "target_alert_rate": 0.01}


@pytest.fixture(scope="module")
def own_broker():
    """A broker of this module's own, that heeds ACLs, to be frozen and killed."""
    authorizer = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": True,
    }
    with EmbeddedBroker(properties=authorizer) as broker:
        yield broker


@pytest.fixture
def config(own_broker):
    return fresh_config(own_broker, threshold=THRESHOLD, worker=IMPATIENT | {"max_poll_interval_ms": 6_000})


def told(health, text):
    """Waits until the health tells a trouble with this text; how long it took is printed (`-s`)."""
    _wait(lambda: any(text in why for why in health.troubles()), text, health)


def ready(health):
    """Waits until no trouble is left."""
    _wait(lambda: not health.troubles(), "ready", health)


def _wait(holds, what, health):
    started = time.monotonic()
    try:
        until(holds, what, 40, longest=0.05)
    except AssertionError:
        raise AssertionError(f"{what}: {health.troubles()}") from None
    print(f"{what}: after {time.monotonic() - started:.1f} s")


def test_no_model_yet(config):
    """Not ready until there is one, with the remedy; ready when it was published."""
    health = Health()
    with Running(config, None, health=health):
        told(health, "no model on topic")
        assert health.is_alive
        store.publish(config, small_model().to_bytes(), "test", "first")
        ready(health)


def test_a_loop_that_hangs(config, monkeypatch):
    """Not alive while a batch does not come back; lost partitions are told, and ready again when it did."""
    release, judge, groups = threading.Event(), Judge.judge, []

    def hanging(self, *arguments):
        release.wait(60)
        return judge(self, *arguments)

    class Recorded(Health):
        def trouble(self, kind, why):
            groups.append(why) if kind == "group" else None
            super().trouble(kind, why)

    health = Recorded(turn_limit=2.0)
    with Running(config, small_model(), health=health):
        ready(health)
        monkeypatch.setattr(Judge, "judge", hanging)
        feed(config, telemetry(30))
        told(health, "the loop has not turned")
        assert not health.is_alive
        time.sleep(8)  # longer than `max_poll_interval_ms`: the group gives the partitions away
        groups.clear()
        release.set()
        until(lambda: any(groups), "it is told that the partitions are lost", 40)
        ready(health)
        assert health.is_alive


def test_an_output_topic_that_is_deleted(config):
    """It is named though nothing is to be written, and forgotten when it is there again."""
    health = Health()
    with Running(config, small_model(), health=health):
        ready(health)
        client = admin(config.kafka)
        [gone] = client.delete_topics([config.topics.alerts]).values()
        gone.result()
        told(health, config.topics.alerts)
        assert health.is_alive
        topics.create(config)
        ready(health)


def test_an_output_topic_that_may_not_be_written(config):
    """The missing right is named though nothing is to be written, and forgotten when it is granted."""
    health, user = Health(), "User:ANONYMOUS"

    def rule(permission, operation):
        kind = ResourceType.TOPIC
        return AclBinding(kind, config.topics.alerts, ResourcePatternType.LITERAL, user, "*", operation, permission)

    client = admin(config.kafka)
    with Running(config, small_model(), health=health):
        ready(health)
        denial = rule(AclPermissionType.DENY, AclOperation.WRITE)
        for future in client.create_acls([rule(AclPermissionType.ALLOW, AclOperation.ALL), denial]).values():
            future.result()
        told(health, "WRITE on the topic is missing")
        [future] = client.delete_acls([_filter(denial)]).values()
        future.result()
        ready(health)


def _filter(binding):
    return AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )


def test_a_broker_that_freezes(config, own_broker):
    """Told while the worker has nothing to do, and while it has; the loop is alive all the time."""
    health = Health()
    with Running(config, small_model(), health=health):
        for records in (0, 60):
            ready(health)
            feed(config, telemetry(records))
            os.kill(own_broker.pid, signal.SIGSTOP)
            try:
                told(health, "no answer from")
                for _ in range(20):
                    assert health.is_alive, health.turn_age
                    time.sleep(0.5)
                assert health.broker_reachable is False
            finally:
                os.kill(own_broker.pid, signal.SIGCONT)
            ready(health)


def test_a_broker_that_dies(config, own_broker):
    """Told, and ready again once it is back."""
    health = Health()
    with Running(config, small_model(), health=health):
        ready(health)
        own_broker.kill()
        told(health, "no answer from")
        assert health.is_alive
        own_broker.restart()
        ready(health)


def test_a_model_that_is_refused(config):
    """The worker stays ready with the model that it has, and says what it refused until another one is named."""
    health = Health()
    sound, other = published(config, small_model(), small_model(1))
    with Running(config, None, health=health):
        ready(health)
        broken = store.store(config, small_model(2).to_bytes()[:-9])
        store.promote(config, broken, "test", "broken")
        until(lambda: any(broken[:16] in text for text in health.remarks()), "the refusal is told", 40)
        assert health.troubles() == []
        assert sound[:16] in health.remarks()[0]
        store.promote(config, other, "test", "sound")
        until(lambda: not health.remarks(), "the refusal is over", 40)


def test_a_broker_that_comes_late(config):
    """A worker that starts before its broker waits for it, not ready, and works when it is there."""
    with EmbeddedBroker() as late:
        moved = config.model_copy(
            update={"kafka": config.kafka.model_copy(update={"bootstrap_servers": late.bootstrap_servers})}
        )
        topics.create(moved)
        late.kill()
        health = Health()
        with Running(moved, small_model(), health=health):
            told(health, "no answer from")
            assert health.is_alive
            time.sleep(12)  # longer than one attempt
            late.restart()
            ready(health)
