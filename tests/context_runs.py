"""Workers that judge what entities did before, and what they told: to be held against one that nothing happened to."""

import json
import uuid

import yaml
from confluent_kafka import TopicPartition
from workload import IMPATIENT, THRESHOLD, Running, entity_telemetry, everything, feed, fresh_config, slotted

from stream_detector.kafka import topics
from stream_detector.kafka.clients import admin

RECORDS = 3_000  # over three partitions: some twenty epochs of `contextual_model`


def drain(config, model=None, **worker):
    """Runs one worker until all that is there is committed; returns its summary."""
    with Running(slotted(config, config.kafka.slot, **worker), model, until_end=True) as running:
        return running.join()


def told(config):
    """Every alert in all fields but the time it was made at, by id; each once."""
    found = [json.loads(message.value()) for message in everything(config, config.topics.alerts)]
    assert len({alert["id"] for alert in found}) == len(found)
    return {alert["id"]: {**alert, "detection_time": None} for alert in found}


def neutral(config, found):
    """Alerts without the names of their topics, which are others in each run."""
    text = json.dumps(found, sort_keys=True)
    for at, topic in enumerate(config.topics.telemetry):
        text = text.replace(topic, f"T{at}")
    return json.loads(text)


def again(broker, **sections):
    """The same telemetry, to be judged by others."""
    config = fresh_config(broker, threshold=THRESHOLD, worker=IMPATIENT, **sections)
    feed(config, entity_telemetry(RECORDS))
    return config


def undisturbed(config, model, batch=2_000):
    """The alerts of one worker that reads the same topics, in large batches, and that nothing happens to."""
    tag = uuid.uuid4().hex[:8]
    names = {name: f"{name}-{tag}" for name in ("alerts", "dead_letters")}
    kafka = config.kafka.model_copy(update={"group_id": f"group-{tag}", "slot": f"slot-{tag}"})
    alone = config.model_copy(update={"topics": config.topics.model_copy(update=names), "kafka": kafka})
    topics.create(alone)
    drain(alone, model, batch_records=batch)
    return told(alone)


def cut(config, offset):
    """Deletes the records before an offset in every partition, as retention does."""
    asked = [TopicPartition(config.topics.telemetry[0], partition, offset) for partition in range(3)]
    client = admin(config.kafka)
    for future in client.delete_records(asked).values():
        future.result()


def written(config, folder):
    """A file with this configuration, for commands."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude={"kafka": {"sasl_password"}})))
    return path
