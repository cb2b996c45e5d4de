"""The first fit from a topic that nobody prepared: whatever people send is read, and told."""

import json

import numpy as np
import pytest
from formats import batch

from stream_detector.errors import DataError
from stream_detector.kafka.clients import plain_producer
from stream_detector.model import DetectorModel
from stream_detector.records import Decoder
from stream_detector.retraining.first_fit import fit_file, fit_topics

pytestmark = pytest.mark.broker

COUNT = 200
FLAT = {"features_path": "", "id_path": "uid", "time_path": "when", "entity_path": "host"}


def flat(number):
    """A flat record with an id, a time, an entity, numbers, a boolean, a constant and a number in text."""
    rng = np.random.default_rng(number)
    load = rng.normal(50, 10)
    return {
        "uid": f"r-{number}",
        "when": 1_767_225_600_000 + number,
        "host": f"web-{number % 5}",
        "cpu": load,
        "mem": str(10 * load + rng.normal()),
        "busy": bool(load > 50),
        "version": 3,
        "trace": f"{rng.integers(2**60):x}",
    }


def send(config, values):
    producer = plain_producer(config.kafka)
    for value in values:
        producer.produce(config.topics.telemetry[0], value)
    producer.flush(30)


def fitted(config):
    return fit_topics(config, COUNT, 0, lambda *_: None)


def test_flat_json_needs_a_topic_and_paths_only(make_config):
    """Id, time, entity and traces are no features, booleans and numbers in text are, odd values are missing and
    named by their place; the worker's decoder reads the same records.
    """
    config = make_config(record=FLAT, model={"steps": 60}, topics={"partitions": 1})
    records = [flat(number) for number in range(COUNT)]
    records[17]["cpu"] = "broken"
    records[20]["stray"] = 1
    send(config, [json.dumps(record).encode() for record in records])

    model = fitted(config)

    assert {f.name: f.kind.value for f in model.schema.features} == dict.fromkeys(
        ("cpu", "mem", "busy", "version"), "numeric"
    )
    told = {each["name"]: each for each in model.lineage["features"]}
    assert "'broken' in record" in told["cpu"]["note"]
    assert f"{config.topics.telemetry[0]}-" in told["cpu"]["note"]
    assert "constant" in told["version"]["note"]
    assert {name: why.split(",")[0] for name, why in model.lineage["not_features"].items()} == {
        "uid": "named by record.id_path",
        "when": "named by record.time_path",
        "host": "named by record.entity_path",
        "trace": "near-unique text",
        "stray": "in 1 of 200 records only",
    }
    decoded = Decoder(config.record).decode([json.dumps(record).encode() for record in records], model.schema)
    assert list(decoded.rejected) == [17]
    assert np.isfinite(DetectorModel.from_bytes(model.to_bytes()).score(decoded.features).anomaly).all()


def test_records_elsewhere_are_one_clear_line(make_config):
    """Flat records read by the default paths: what to set is said."""
    config = make_config(model={"steps": 60}, topics={"partitions": 1})
    send(config, [json.dumps(flat(number)).encode() for number in range(COUNT)])
    with pytest.raises(DataError, match=r'200 of 200 records cannot be used .*record.features_path .""'):
        fitted(config)


def test_rows_are_counted_not_messages(make_config):
    """Ten Arrow messages of thirty rows are enough for two hundred records, and the newest are taken; the unit of
    their times is guessed, and told.
    """
    record = {"format": "arrow", "features_path": ""}
    config = make_config(record=record, model={"steps": 60}, topics={"partitions": 1})
    rng = np.random.default_rng(0)
    send(
        config,
        [
            batch([{"time": 1_767_225_600 + at, "a": rng.normal(), "b": rng.normal()} for _ in range(30)])
            for at in range(10)
        ],
    )
    model = fitted(config)
    assert model.lineage["offsets"] == {f"{config.topics.telemetry[0]}-0": [3, 9]}
    assert model.schema.names == ("a", "b")
    (told,) = model.lineage["read"]
    assert told.startswith("times at 'time' such as 1767225603 are taken as seconds, 2026-01-01T00:00:03")


def test_what_is_wrong_with_records_names_their_file(make_config, tmp_path):
    """A file with too few records, or without a feature, is named with what is wrong."""
    config = make_config()
    for text, says in (("a,b\n1,2\n", "1 record is too few"), ("label\n1\n", "no column can be a feature")):
        path = tmp_path / "few.csv"
        path.write_text(text)
        with pytest.raises(DataError, match=rf"few.csv: {says}"):
            fit_file(path, config, 0, lambda *_: None)
