"""The models topic survives its writers: what is no pointer, and no artifact, stops nobody."""

import hashlib
import json
import sys

import pytest
import yaml
from malformed_pointers import unsound
from structlog.testing import capture_logs
from workload import THRESHOLD, Running, committed, ends, feed, fresh_config, published, small_model, telemetry, until

from stream_detector.cli import main
from stream_detector.kafka import topics
from stream_detector.kafka.clients import admin
from stream_detector.records.pointer import Pointer
from stream_detector.registry import store
from stream_detector.registry.model_pointer import PointerWatch

GROUP = {"session_timeout_ms": 6_000, "transaction_timeout_ms": 5_000, "batch_records": 256}


@pytest.fixture
def config(broker):
    return fresh_config(broker, threshold=THRESHOLD, worker=GROUP)


@pytest.fixture
def command(config, monkeypatch, capsys, tmp_path):
    """Runs `stream-detector ARGS`; returns exit code, standard output and standard error."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", include={"kafka", "topics"}, exclude_none=True)))

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["stream-detector", *map(str, args), "-c", str(path)])
        monkeypatch.setenv("COLUMNS", "240")
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture
def spoil(config, produce):
    """Writes all that is no pointer under both keys, and artifacts that are not what their keys say; returns how many."""

    def write():
        values = list(unsound().values())
        damaged = [b"version/" + hashlib.sha256(bytes([n])).hexdigest().encode() for n in range(3)]
        keys = [
            *[b"current"] * len(values),
            *[b"shadow"] * len(values),
            *damaged,
            b"version/../x",
            b"version/\xff",
            b"",
        ]
        produce(config, config.topics.models, [*values, *values, b"other", b"", b"x" * 900_000, *[b"?"] * 3], keys=keys)
        return len(damaged)

    return write


def test_no_writer_breaks_a_command(config, command, spoil, tmp_path):
    """Listing, showing, exporting, promoting, going back and pruning do what they do; one line says what was passed over."""
    first, second = published(config, small_model(0), small_model(1))
    store.promote(config, second, "me", "better")
    damaged = spoil()

    code, listed, err = command("models", "ls")
    assert code == 0
    assert err.count("is passed over") == 2  # of the current pointer, and of the shadow's
    assert [line for line in listed.splitlines() if second[:16] in line and "current" in line]
    assert listed.count("damaged") == damaged
    assert json.loads(command("models", "show")[1])["version"] == second
    assert command("models", "export", "current", tmp_path / "m")[0] == 0
    assert command("status")[0] == 0
    assert command("models", "rollback")[0] == 0
    assert store.current(config).version == first
    spoil()
    assert command("models", "promote", second[:12], "--expected", first[:12])[0] == 0
    spoil()
    assert command("models", "shadow", first[:12])[0] == 0
    spoil()
    code, _, err = command("models", "prune", "--keep", 1)
    assert (code, f"deleted {damaged}:" in err) == (0, True)
    assert {info.version for info in store.versions(config)} == {first, second}
    assert store.current(config).version == second


def test_where_no_pointer_is_sound_there_is_no_model(config, command, spoil):
    """A topic that holds nothing but what is no pointer is one without a model; a promotion makes it one with."""
    version = store.store(config, small_model(0).to_bytes())
    spoil()
    assert store.current(config) is None
    for use in ("show", "rollback"):
        assert command("models", *{"show": ("show",), "rollback": ("rollback",)}[use])[0] == 4
    assert command("status")[0] == 0
    assert command("models", "promote", version[:12])[0] == 0
    assert store.current(config).version == version


def test_a_pointer_taken_away_stays_away(config, produce):
    """What stood before a deletion is not brought back by a record behind it that is no pointer."""
    store.publish(config, b"one", "job", "fit")
    produce(config, config.topics.models, [None, b"nonsense"], keys=[b"current"] * 2)
    assert store.current(config) is None


def test_a_watch_hands_over_the_last_sound_pointer(config, produce):
    """A sound pointer between others is not lost, whether it was written before the watch began or after."""
    told = []
    store.publish(config, b"one", "job", "fit")
    produce(config, config.topics.models, [b"[]", b"{}"], keys=[b"current"] * 2)
    watch = PointerWatch(config, told.append)
    assert watch.poll()[b"current"].version == hashlib.sha256(b"one").hexdigest()
    assert len(told) == 1
    second = Pointer("b" * 64, None, "me", "now", "why")
    produce(config, config.topics.models, [b"[]", second.to_json(), b"{}", b"]"], keys=[b"current"] * 4)
    moved = {}
    until(lambda: moved.update(watch.poll(0.2)) or len(told) == 4, "all four records were seen")
    assert moved[b"current"] == second
    watch.close()


def test_no_writer_stops_a_worker(config, spoil):
    """A worker starts with the last sound pointer, goes on under what is none, and follows the next sound one."""
    second, first = published(config, small_model(1), small_model(0))
    spoil()
    with capture_logs() as logs, Running(config, None) as running:
        feed(config, telemetry(300))
        until(lambda: committed(config) == ends(config), "all is committed")
        assert running.seen.model == second
        spoil()
        feed(config, telemetry(300, seed=2))
        until(lambda: committed(config) == ends(config), "all is committed, beside what is no pointer")
        assert running.seen.model == second
        store.promote(config, first, "me", "back")
        spoil()
        until(lambda: running.seen.model == first, "the sound pointer between is followed")
    assert any("not a model pointer" in entry.get("why", "") for entry in logs)


def test_a_models_topic_that_is_deleted_is_said_once(config, monkeypatch):
    """A worker goes on with its model, says that the topic is gone, and follows the pointer of a new one."""
    monkeypatch.setattr("stream_detector.registry.model_pointer.LOOK", 0.5)
    monkeypatch.setattr("stream_detector.worker.model_swap.PAUSE", 0.2)
    (version,) = published(config, small_model(0))
    with capture_logs() as logs, Running(config, None) as running:
        until(lambda: running.seen.model == version, "it runs")
        client = admin(config.kafka)
        client.delete_topics([config.topics.models])[config.topics.models].result(30)
        until(lambda: any("cannot be followed" in entry["event"] for entry in logs), "it is said")
        feed(config, telemetry(300))
        until(lambda: committed(config) == ends(config), "it goes on")
        topics.create(config)
        (other,) = published(config, small_model(1))
        until(lambda: running.seen.model == other, "the pointer of the new topic is followed")
    said = [entry for entry in logs if "cannot be followed" in entry["event"]]
    assert len(said) == 1
    assert config.topics.models in said[0]["why"]
    assert any("followed again" in entry["event"] for entry in logs)
