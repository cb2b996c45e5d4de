"""A model is held against what the topic holds; records that change under a worker are told, and never called normal."""

import json
from functools import cache

import pytest
import yaml
from workload import (
    MODEL_CONFIG,
    THRESHOLD,
    Running,
    committed,
    dead_letters,
    ends,
    everything,
    feed,
    fresh_config,
    published,
    rows,
    slotted,
    until,
)

import stream_detector
from stream_detector.errors import ModelSchemaError
from stream_detector.records import CONNECT
from stream_detector.records.control_events import ControlEvent
from stream_detector.registry import store
from stream_detector.registry.suitability import check_at_start, require_suitable
from stream_detector.worker import loop


@cache
def model():
    """A model of cpu, memory, latency and kind, none of them required."""
    config = stream_detector.ModelConfig(**MODEL_CONFIG)
    return stream_detector.fit(list(rows(600, seed=1000)), config=config, device="cpu")


def records(count, seed=0, renamed=(), **more):
    """Telemetry in which features have other names."""
    names = dict(renamed)
    for row in rows(count, seed):
        yield json.dumps({"features": {names.get(name, name): value for name, value in row.items()} | more}).encode()


ALL = (("cpu", "CPU"), ("memory", "mem"), ("latency", "latency_ms"), ("kind", "sort"))


@pytest.fixture
def config(broker):
    return fresh_config(broker, threshold=THRESHOLD, drift={"cooldown": 1_000_000})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([json.dumps({"features": {"pressure": 1.0, "flow": 2.0}}).encode()] * 60, "instead 'flow', 'pressure'"),
        (list(records(60, renamed=ALL)), "'cpu' (is it 'CPU'?), 'memory' (is it 'mem'?)"),
        (
            [json.dumps({"features": {"host": {"stats": row}}}).encode() for row in rows(60)],
            "set record.features_path",
        ),
    ],
)
def test_a_worker_does_not_start_on_records_of_another_kind(config, values, says):
    """Another topic's model, one from before a release, and features elsewhere are one clear error; nothing is consumed."""
    feed(config, values)
    with pytest.raises(ModelSchemaError) as raised:
        loop.run(config, model, until_end=True)
    assert says in str(raised.value)
    assert set(committed(config).values()) == {None}


def test_vectors_of_another_width_are_named(broker):
    """Bare vectors have no names; a width that no record has is an error with both sizes."""
    config = fresh_config(broker, record={"format": "float32"}, features=[{"name": name} for name in "ab"])
    numbers = stream_detector.fit(
        [{"a": row["cpu"], "b": row["latency"]} for row in rows(300)],
        config=stream_detector.ModelConfig(**MODEL_CONFIG),
        device="cpu",
    )
    feed(config, [bytes(12)] * 40)
    with pytest.raises(ModelSchemaError, match=r"8 bytes \(a, b\).*12 bytes"):
        require_suitable(numbers, config)


def test_hardly_any_records_prove_nothing(config):
    """An empty topic, and a first try by hand, hinder no start; what has nothing that is judged is a dead letter."""
    require_suitable(model(), config)
    feed(config, [b'{"features": {"foo": 1}}'] * 3)
    assert loop.run(config, model, until_end=True).dead_lettered == {"no-known-feature": 3}
    letter = dead_letters(config)[0, 0]
    headers = dict(letter.headers())
    assert b"'foo'" in headers[CONNECT + "exception.message"]


def test_a_model_of_some_of_the_features_fits(config):
    """Fields that the model does not know are no reason against it."""
    feed(config, records(60, gpu=1.0, disk=2.0))
    check_at_start(model(), config)


def test_a_rename_under_a_worker_is_told_and_called_normal_by_nobody(config):
    """From there on each record is a dead letter with its reason; one event names it, and a restart changes nothing."""
    feed(config, records(300), partitions=1)
    assert loop.run(config, model, until_end=True).dead_lettered == {}
    feed(config, records(400, 1, renamed=ALL), partitions=1)
    done = loop.run(slotted(config, "again", batch_records=64), model, until_end=True)
    assert (done.normal, done.flagged, done.dead_lettered) == (0, 0, {"no-known-feature": 400})
    assert committed(config) == ends(config)
    events = [ControlEvent.from_json(message.value()) for message in everything(config, config.topics.control)]
    assert [(e.kind, e.detector, e.offset, e.features) for e in events] == [
        ("regime-change", "dead-letters", 399, ("no-known-feature",))
    ]


def test_features_that_go_missing_are_a_metric_and_a_drift_event(config):
    """One that half of the records lack is counted by name and reported once; batches do not matter."""
    feed(config, records(300), partitions=1)
    feed(
        config,
        (value for pair in zip(records(300, 1, [("memory", "mem")]), records(300, 2), strict=True) for value in pair),
        partitions=1,
    )
    found = []
    for size in (50, 5_000):
        own = config.model_copy(
            update={"kafka": config.kafka.model_copy(update={"group_id": f"{config.kafka.group_id}-{size}"})}
        )
        done = loop.run(slotted(own, str(size), batch_records=size), model, until_end=True)
        assert done.missing == {"memory": 300}
        events = [ControlEvent.from_json(message.value()) for message in everything(config, config.topics.control)]
        found.append([(e.kind, e.offset, e.features) for e in events if e.detector == "missing"])
    assert found[0] == [("drift", 498, ("memory missing",))]
    assert found[1] == found[0] * 2


def test_new_categories_that_stay_are_one_change_of_regime(config):
    """Names of a release are reported once, by feature, when a tenth of the records have them."""
    feed(config, records(300), partitions=1)
    feed(config, [value.replace(b'"kind": "', b'"kind": "new-') for value in records(400, 1)], partitions=1)
    done = loop.run(config, model, until_end=True)
    events = [ControlEvent.from_json(message.value()) for message in everything(config, config.topics.control)]
    news = [(e.kind, e.offset, e.features) for e in events if e.detector == "unseen"]
    assert news == [("regime-change", 399, ("kind new",))]
    assert done.flagged < 150


@pytest.fixture
def models(config, command, tmp_path):
    """Runs `stream-detector models ARGS`."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", include={"kafka", "topics"}, exclude_none=True)))
    return lambda *args: command("models", *args, "-c", path)


def test_a_model_of_other_records_is_not_made_current(config, models, tmp_path):
    """`import` and `promote` refuse it with exit code 4 and both sides' names; as a candidate it may wait."""
    model().save(file := tmp_path / "m.safetensors")
    feed(config, records(60, renamed=ALL))
    code, _, err = models("import", file)
    assert (code, "is it 'CPU'?" in err, store.current(config)) == (4, True, None)
    assert models("import", file, "--candidate")[0] == 0
    assert models("promote", model().version[:12])[0] == 4
    feed(config, records(60))
    assert models("promote", model().version[:12])[0] == 0


def test_a_running_worker_keeps_its_model(config):
    """A promoted model of other features is refused at the swap, by name, and the one in force stays."""
    other = stream_detector.fit(
        [{"pressure": row["cpu"], "flow": row["latency"]} for row in rows(300)],
        config=stream_detector.ModelConfig(**MODEL_CONFIG),
        device="cpu",
    )
    versions = published(config, model())
    feed(config, records(60))
    with Running(config, None) as running:
        until(lambda: running.seen.records == 60, "all are judged")
        store.promote(config, store.store(config, other.to_bytes()), "test", "wrong")
        until(lambda: running.seen.models_refused == 1, "it is refused")
        assert running.seen.model == versions[0]
