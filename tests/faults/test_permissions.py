"""Permissions that are missing: the run ends by itself, and names what to grant."""

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType
from workload import Running, feed, fresh_config, small_model, telemetry

from stream_detector.errors import AuthorizationError
from stream_detector.kafka.clients import admin
from stream_detector.kafka.embedded import EmbeddedBroker

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": True,
}


@pytest.fixture(scope="module")
def guarded_broker():
    """A broker that heeds ACLs, and allows what none of them is about."""
    with EmbeddedBroker(properties=AUTHORIZER) as broker:
        yield broker


def deny(config, kind, name, operation):
    """Takes one right away and leaves the others."""
    client, user = admin(config.kafka), "User:ANONYMOUS"
    bindings = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, user, "*", which, permission)
        for which, permission in ((AclOperation.ALL, AclPermissionType.ALLOW), (operation, AclPermissionType.DENY))
    ]
    for future in client.create_acls(bindings).values():
        future.result()


WRITE, READ = AclOperation.WRITE, AclOperation.READ
DENIED = {
    "alerts": (lambda c: (ResourceType.TOPIC, c.topics.alerts, WRITE), r"WRITE on the topic"),
    "dead letters": (lambda c: (ResourceType.TOPIC, c.topics.dead_letters, WRITE), r"WRITE on the topic"),
    "telemetry": (lambda c: (ResourceType.TOPIC, c.topics.telemetry[0], READ), r"READ or WRITE on the topic"),
    "group": (lambda c: (ResourceType.GROUP, c.kafka.group_id, READ), r"READ on the consumer group"),
    "transactions": (
        lambda c: (
            ResourceType.TRANSACTIONAL_ID,
            f"stream-detector.{c.kafka.group_id}.{c.kafka.slot}",
            WRITE,
        ),
        r"WRITE and DESCRIBE on the transactional id",
    ),
}


@pytest.mark.parametrize("what", DENIED)
def test_a_missing_permission_is_named(guarded_broker, what):
    """Without one of its rights the worker ends, and names that right and the resource."""
    config = fresh_config(guarded_broker, threshold={"window": 500, "warmup": 100, "target_alert_rate": 0.01})
    feed(config, [b"poison", *telemetry(600, anomalies=0.1)], partitions=1)
    resource, permission = DENIED[what]
    kind, name, operation = resource(config)
    deny(config, kind, name, operation)
    running = Running(config, small_model())
    with pytest.raises(AuthorizationError, match=permission) as caught, running:
        running.join(60)
    assert name in str(caught.value)
