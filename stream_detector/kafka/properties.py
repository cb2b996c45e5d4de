"""Checks that the clients take the properties of a configuration; no broker is asked, nothing is opened.

librdkafka knows its own properties: it is given each one with a second one that it does not know, and
says which of the two it refuses, before it makes a client.
"""

from collections.abc import Iterator
from difflib import get_close_matches

from confluent_kafka import KafkaException, Producer

from stream_detector.config import Config

__all__ = ["faults"]

Value = str | int | bool
PROBE = "stream-detector.no-such-property"
LOADS_CODE = "plugin.library.paths"  # as soon as it is set
UNKNOWN = "No such configuration property"
RANGE = "outside allowed range "
KNOWN = (  # for suggestions only
    "acks allow.auto.create.topics api.version.request batch.num.messages batch.size broker.address.family check.crcs "
    "client.dns.lookup client.id client.rack compression.codec compression.level compression.type "
    "connections.max.idle.ms debug delivery.timeout.ms enable.sasl.oauthbearer.unsecure.jwt "
    "enable.ssl.certificate.verification fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes "
    "fetch.min.bytes fetch.queue.backoff.ms fetch.wait.max.ms group.instance.id heartbeat.interval.ms linger.ms "
    "log_level max.in.flight max.in.flight.requests.per.connection max.partition.fetch.bytes message.max.bytes "
    "message.send.max.retries message.timeout.ms metadata.max.age.ms partition.assignment.strategy "
    "queue.buffering.max.kbytes queue.buffering.max.messages queue.buffering.max.ms queued.max.messages.kbytes "
    "queued.min.messages receive.message.max.bytes reconnect.backoff.max.ms reconnect.backoff.ms request.timeout.ms "
    "retries retry.backoff.max.ms retry.backoff.ms sasl.kerberos.keytab sasl.kerberos.kinit.cmd "
    "sasl.kerberos.principal sasl.kerberos.service.name sasl.mechanism sasl.mechanisms sasl.oauthbearer.client.id "
    "sasl.oauthbearer.client.secret sasl.oauthbearer.config sasl.oauthbearer.extensions sasl.oauthbearer.method "
    "sasl.oauthbearer.scope sasl.oauthbearer.token.endpoint.url sasl.password sasl.username security.protocol "
    "socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails socket.nagle.disable "
    "socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms ssl.ca.location ssl.ca.pem "
    "ssl.certificate.location ssl.certificate.pem ssl.cipher.suites ssl.crl.location ssl.curves.list "
    "ssl.endpoint.identification.algorithm ssl.key.location ssl.key.password ssl.key.pem ssl.keystore.location "
    "ssl.keystore.password ssl.sigalgs.list statistics.interval.ms topic.metadata.refresh.interval.ms"
)
REGISTRY = (
    "basic.auth.user.info bearer.auth.client.id bearer.auth.client.secret bearer.auth.credentials.source "
    "bearer.auth.identity.pool.id bearer.auth.issuer.endpoint.url bearer.auth.logical.cluster "
    "bearer.auth.scope bearer.auth.token cache.capacity cache.latest.ttl.sec max.retries proxy "
    "retries.max.wait.ms retries.wait.ms ssl.ca.location ssl.certificate.location ssl.key.location "
    "ssl.key.password timeout"
)
CHOICES = {
    "security.protocol": "plaintext, ssl, sasl_plaintext or sasl_ssl",
    "compression.type": "none, gzip, snappy, lz4 or zstd",
    "compression.codec": "none, gzip, snappy, lz4 or zstd",
    "sasl.mechanism": "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI",
    "sasl.mechanisms": "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI",
}


def faults(config: Config) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Yields each property that its client refuses, as the key in the configuration, and why. No value is shown."""
    for name, value in config.kafka.properties.items():
        if why := _refusal(name, value):
            yield ("kafka", "properties", name), why
    for name in config.record.registry_properties:
        if name == "url":
            yield ("record", "registry_properties", name), "is what record.registry_url sets; give that"
        elif name not in REGISTRY.split():
            yield (
                ("record", "registry_properties", name),
                f"unknown to the registry's client{_suggestion(name, REGISTRY)}",
            )


def _refusal(name: str, value: Value) -> str | None:
    """Says why the client does not take a property; None when it does."""
    if name == LOADS_CODE:
        return None
    said = _said(name, value)
    if PROBE in said:
        return _wrong_choice(name, value)
    if UNKNOWN in said:
        return f"unknown to the Kafka client{_suggestion(name, KNOWN)}"
    if isinstance(value, int) and RANGE in said:
        return f"is outside of {said.split(RANGE)[1].strip()}"
    choices = f"; it is one of {CHOICES[name]}" if name in CHOICES else ""
    return f"has a value that the Kafka client does not take{choices}"


def _said(name: str, value: Value) -> str:
    """Asks the client about a property, followed by one that it cannot know; of a callback it says that it is no text."""
    try:
        Producer({name: value, PROBE: ""})
    except KafkaException as error:
        return str(error.args[0].str())
    except (TypeError, ValueError, AttributeError, UnicodeError):
        pass
    return ""


def _wrong_choice(name: str, value: Value) -> str | None:
    """Names a mechanism that is none: the client looks at it only when it is made, which is later than here."""
    if name in {"sasl.mechanism", "sasl.mechanisms"} and str(value) not in CHOICES[name].replace(" or ", ", ").split(
        ", "
    ):
        return f"has a value that the Kafka client does not take; it is one of {CHOICES[name]}"
    return None


def _suggestion(name: str, known: str) -> str:
    close = get_close_matches(name, known.split(), n=1)
    return f"; did you mean {close[0]!r}?" if close else "; look it up in librdkafka's CONFIGURATION.md"
