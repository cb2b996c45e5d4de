"""Telemetry to feed a worker with, and what it left on its topics, read independently of it."""

import json
import math
import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from functools import cache

DAY_ZERO = 1_700_000_000_000  # epoch ms
KINDS = ("web", "db", "cache")
THRESHOLD = {"window": 500, "warmup": 100, "target_alert_rate": 0.01}
IMPATIENT = {  # what is dead is noticed within seconds
    "session_timeout_ms": 6_000,
    "transaction_timeout_ms": 3_000,
    "commit_interval_ms": 50,
    "batch_records": 64,
}
MODEL_CONFIG = {"model": {"steps": 60, "members": 1, "hidden": 16}}


def command_drawing(pictures):
    """For `python -c`: the command `stream-detector`, whose trainings draw so many pictures; all take longer than they."""
    return f"""
from itertools import islice
from stream_detector.tracking import plots
figures = plots._figures
plots._figures = lambda *of: islice(figures(*of), {pictures})
from stream_detector.cli import main
main()
"""


def rows(count, seed=0, anomalies=0.0):
    """Correlated features of four services; a share of rows breaks the correlation badly."""
    rng = random.Random(seed)
    for _ in range(count):
        load, jitter = rng.gauss(0, 1), rng.gauss(0, 1)
        row = {
            "cpu": 50 + 10 * load,
            "memory": 30 + 5 * load + 2 * jitter,
            "latency": 3 + jitter,
            "kind": rng.choice(KINDS),
        }
        if rng.random() < anomalies:
            row |= {"cpu": rng.choice((150.0, -80.0)) * (1 + rng.random()), "latency": 40 * rng.random()}
        yield row


def telemetry(count, seed=0, anomalies=0.02):
    """Record values as JSON bytes, each with an id of its own."""
    for at, row in enumerate(rows(count, seed, anomalies)):
        yield json.dumps(
            {"id": f"r{seed}-{at}", "entity": f"host-{at % 7}", "time": 1_700_000_000_000 + at, "features": row}
        ).encode()


def entity_rows(count, seed=0, anomalies=0.0):
    """Entity, time (epoch ms) and features of servers that each have a level of their own, and a day.

    A share of them has the level of another server, which is normal for that one. Some come late, from the future,
    without a time or without an entity.
    """
    rng, levels = random.Random(seed), random.Random(7)
    usual = [(levels.uniform(10, 90), levels.uniform(10, 90)) for _ in range(9)]
    for at in range(count):
        host, time_ms = rng.randrange(9), DAY_ZERO + at * 30_000
        level = usual[(host + 4) % 9 if rng.random() < anomalies else host]
        day = 4 * math.sin(time_ms / 86_400_000 * 2 * math.pi)
        odd = rng.random()
        time_ms += -7_200_000 if odd < 0.01 else 400 * 86_400_000 if odd < 0.02 else 0
        features = {"cpu": level[0] + day + rng.gauss(0, 1), "memory": level[1] + rng.gauss(0, 1)}
        yield (None if odd > 0.99 else f"host-{host}"), (None if 0.98 < odd < 0.99 else time_ms), features


def entity_telemetry(count, seed=0, anomalies=0.01):
    """The records of `entity_rows` as JSON bytes."""
    for at, (entity, time_ms, features) in enumerate(entity_rows(count, seed, anomalies)):
        whose = {"entity": entity, "time": time_ms}
        yield json.dumps(
            {"id": f"c{seed}-{at}", **{name: each for name, each in whose.items() if each}, "features": features}
        ).encode()


@cache
def contextual_model(seed=0, *, in_context=True, **context):
    """A model that judges what a server did before, too; epochs are short, so that a few hundred records pass some.

    Unless `in_context`, it judges the same records alone.
    """
    import torch

    import stream_detector
    from stream_detector.config import ContextConfig

    torch.set_num_threads(1)
    entities, times, features = zip(*entity_rows(2_000, seed=500 + seed), strict=True)
    settings = ContextConfig(**{"epoch": 150, "history": 60, "most_entities": 8, "tolerance_ms": 60_000} | context)
    config = stream_detector.ModelConfig(**MODEL_CONFIG)
    whose = {"entity": entities, "time": times, "context": settings} if in_context else {}
    return stream_detector.fit(list(features), None, config, seed, "cpu", **whose)


def record(**changes):
    """One record's value with some of its features changed; None leaves a feature out."""
    features = {"cpu": 50.0, "memory": 30.0, "latency": 3.0, "kind": "web"} | changes
    return json.dumps(
        {"id": "r", "features": {name: value for name, value in features.items() if value is not None}}
    ).encode()


@cache
def small_model(seed=0):
    """A real model, fitted once in seconds: good enough to test a worker with."""
    import torch

    import stream_detector

    torch.set_num_threads(1)  # two threads on a busy machine fight
    numbers = [stream_detector.Feature(name, required=name == "cpu") for name in ("cpu", "memory", "latency")]
    schema = stream_detector.FeatureSchema(
        (*numbers, stream_detector.Feature("kind", stream_detector.Kind.CATEGORICAL))
    )
    config = stream_detector.ModelConfig(**MODEL_CONFIG)
    return stream_detector.fit(list(rows(600, seed=1000 + seed)), schema, config, seed=seed, device="cpu")


def fresh_config(broker, **sections):
    """A configuration with topics, group and slot of its own; the topics are created."""
    from stream_detector.config import Config
    from stream_detector.kafka import topics

    tag = uuid.uuid4().hex[:8]
    kafka = {"bootstrap_servers": broker.bootstrap_servers, "group_id": f"group-{tag}", "slot": f"slot-{tag}"}
    names = {name: f"{name}-{tag}" for name in ("alerts", "dead_letters", "models", "feedback", "control", "shadow")}
    own = {"kafka": kafka, "topics": {"telemetry": [f"telemetry-{tag}"], "partitions": 3, **names}}
    config = Config(**sections | {name: own[name] | sections.get(name, {}) for name in own})
    topics.create(config)
    return config


def until(holds, what, timeout=60, longest=0.5):
    """Returns once `holds()`; fails after `timeout` seconds. What asks the broker is no less work than what is waited for.

    Pauses between two looks grow up to `longest` seconds.
    """
    deadline, pause = time.monotonic() + timeout, 0.05
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(pause)
        pause = min(1.5 * pause, longest)


def feed(config, values, partitions=3, keyed=True, headers=None, timestamp=0, topic=None):
    """Writes values round robin over the partitions; returns how many each partition got."""
    from stream_detector.kafka.clients import plain_producer

    producer = plain_producer(config.kafka)
    counts = Counter()
    for at, value in enumerate(values):
        while True:
            try:
                producer.produce(
                    topic or config.topics.telemetry[0],
                    value,
                    f"k{at % 7}".encode() if keyed else None,
                    at % partitions,
                    headers=headers or [],
                    timestamp=timestamp,
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        counts[at % partitions] += 1
    assert producer.flush(30) == 0
    return counts


def alter(config, topic, settings):
    """Sets a topic's own settings."""
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    from stream_detector.kafka.clients import admin

    client = admin(config.kafka)
    entries = [
        ConfigEntry(name, str(each), incremental_operation=AlterConfigOpType.SET) for name, each in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for future in client.incremental_alter_configs([resource]).values():
        future.result()


def everything(config, topic, isolation="read_committed"):
    """All records of a topic up to its end, by a consumer of its own."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": config.kafka.bootstrap_servers,
            "group.id": "independent-reader",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    found, open_ends = [], set(partitions)
    while open_ends:
        message = consumer.poll(20)
        assert message is not None, f"{topic}: no end after 20 s"
        if message.error() is None:
            found.append(message)
        elif message.error().code() == KafkaError._PARTITION_EOF:
            open_ends.discard(message.partition())
        else:
            raise AssertionError(message.error())
    consumer.close()
    return found


@dataclass(frozen=True)
class Verdict:
    """What an alert says that must not depend on how it came about."""

    score: float
    threshold: float
    state: str


def alerts(config):
    """Alerts by partition and offset of their record, each seen exactly once."""
    found = [json.loads(message.value()) for message in everything(config, config.topics.alerts)]
    repeated = [name for name, times in Counter(alert["id"] for alert in found).items() if times > 1]
    assert not repeated, f"alerts seen more than once: {repeated[:5]}"
    return {
        (alert["source"]["partition"], alert["source"]["offset"]): Verdict(
            alert["score"], alert["threshold"], alert["threshold_state"]
        )
        for alert in found
    }


def source_of(letter):
    """(partition, offset) that a dead letter came from."""
    headers = {name: content for name, content in letter.headers() if name.startswith("__connect.errors.")}
    return int(headers["__connect.errors.partition"]), int(headers["__connect.errors.offset"])


def dead_letters(config):
    """Dead letters by source, each seen exactly once."""
    found = everything(config, config.topics.dead_letters)
    sources = Counter(map(source_of, found))
    repeated = [(source_of(m), m.partition(), m.offset(), m.timestamp()) for m in found if sources[source_of(m)] > 1]
    assert not repeated, f"dead letters seen more than once (source, partition, offset, time): {repeated[:8]}"
    return {source_of(letter): letter for letter in found}


def with_alerts(config, found):
    """The same topics, but for an alerts topic of its own that holds these alerts alone."""
    from stream_detector.kafka import topics
    from stream_detector.kafka.clients import send

    name = f"{config.topics.alerts}-{uuid.uuid4().hex[:8]}"
    own = config.model_copy(update={"topics": config.topics.model_copy(update={"alerts": name})})
    topics.create(own)
    for alert in found:
        send(own.kafka, name, alert.key, alert.to_json())
    return own


def left_by(config):
    """Alerts and dead letters, each checked to be there once; the letters by value."""
    return alerts(config), {source: letter.value() for source, letter in dead_letters(config).items()}


def committed(config):
    """The group's committed offset of every partition of the first telemetry topic."""
    from stream_detector.kafka.group import progress

    return {(each.topic, each.partition): each.committed for each in progress(config)}


def ends(config):
    """The end offset of every partition of the telemetry topics."""
    from stream_detector.kafka.topics import end_offsets

    return end_offsets(config.kafka, config.topics.telemetry)


def slotted(config, slot, **worker):
    """The same configuration for another worker, with other worker settings."""
    return config.model_copy(
        update={
            "kafka": config.kafka.model_copy(update={"slot": slot}),
            "worker": type(config.worker)(**(config.worker.model_dump() | worker)),
        }
    )


class Running:
    """A worker in a thread of its own; stopped on leaving the block, its error raised there.

    Without a model it takes the one on the models topic.
    `seen` is the last summary it reported, `summary` the final one.
    """

    def __init__(self, config, model, **options):
        from stream_detector.worker.summary import RunSummary

        self.stop = threading.Event()
        self.seen, self.summary, self.error = RunSummary(), None, None
        self._thread = threading.Thread(target=self._run, args=(config, model, options), daemon=True)

    def observe(self, summary):
        self.seen = summary

    def join(self, timeout=90):
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the worker does not end"
        if self.error:
            raise self.error
        return self.summary

    def _run(self, config, model, options):
        from stream_detector.worker import loop

        source = (lambda: model) if model else None
        try:
            self.summary = loop.run(config, source, stop=self.stop, observer=self, **options)
        except Exception as error:  # noqa: BLE001 - raised again by whoever joins
            self.error = error

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stop.set()
        if kind is None:
            self.join()


def published(config, *models):
    """Stores models; returns their versions, the first one serving."""
    from stream_detector.registry import store

    versions = [store.store(config, model.to_bytes()) for model in models]
    store.promote(config, versions[0], "test", "first")
    return versions


def verdicts(config, model):
    """What one worker finds in the same telemetry that knows no other model: alerts by partition and offset."""
    from stream_detector.kafka import topics

    names = {name: f"{name}-{model.version[:6]}-{config.kafka.group_id}" for name in ("alerts", "dead_letters")}
    kafka = config.kafka.model_copy(update={"group_id": f"{config.kafka.group_id}-{model.version[:6]}"})
    alone = config.model_copy(update={"topics": config.topics.model_copy(update=names), "kafka": kafka})
    topics.create(alone)
    with Running(slotted(alone, "alone", batch_records=2_000), model, until_end=True) as running:
        running.join()
    return alerts(alone)
