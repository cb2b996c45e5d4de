"""Models on Kafka: what is fetched is what was published, and the pointer never names what is not there."""

import dataclasses
import hashlib
import json
import threading
import time
import uuid
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType
from structlog.testing import capture_logs

from stream_detector.errors import (
    KafkaError,
    ModelFormatError,
    ModelNotFoundError,
    PointerMovedError,
    TopicMissingError,
)
from stream_detector.kafka import reads
from stream_detector.kafka.clients import admin
from stream_detector.registry import model_pointer, store
from stream_detector.registry.model_pointer import PointerWatch, exclusive_writer


def sha(artifact):
    return hashlib.sha256(artifact).hexdigest()


@pytest.fixture
def hold_back():
    """`with hold_back(config, seconds):` another writer's transaction on the models topic is open for so long."""

    @contextmanager
    def hold(config, seconds):
        writer = Producer(
            {"bootstrap.servers": config.kafka.bootstrap_servers, "transactional.id": f"other-{uuid.uuid4().hex}"}
        )
        writer.init_transactions(30)
        writer.begin_transaction()
        writer.produce(config.topics.models, b"?", b"other", 0)
        writer.flush(30)
        over = threading.Event()

        def end():
            over.wait(seconds)
            writer.commit_transaction(30)

        thread = threading.Thread(target=end)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    return hold


def test_published_bytes_come_back(make_config):
    """An artifact far beyond Kafka's default limit is published, pointed to and fetched unchanged."""
    config = make_config()
    artifact = b"weights!" * 2_500_000  # 20 MB

    assert store.current(config) is None
    pointer = store.publish(config, artifact, who="job", why="first fit")

    assert pointer.version == sha(artifact)
    assert (pointer.previous, pointer.who, pointer.why) == (None, "job", "first fit")
    assert store.current(config) == pointer
    assert store.fetch(config, pointer.version) == artifact


def test_pointer_moves_and_moves_back(make_config):
    """The pointer keeps the way back; pointing again to what serves does not lose it."""
    config = make_config()
    first, second = (store.publish(config, artifact, "job", "fit").version for artifact in (b"one", b"two"))

    assert store.current(config).previous == first
    store.promote(config, second, "me", "again")
    assert store.current(config).previous == first
    store.promote(config, first, "me", "roll back")

    pointer = store.current(config)
    assert (pointer.version, pointer.previous, pointer.why) == (first, second, "roll back")


def test_versions_are_listed_oldest_first(make_config, produce):
    """The list has size, time and which one serves; a deleted version is gone."""
    config = make_config()
    artifacts = [b"a", b"bb", b"ccc"]
    for artifact in artifacts:
        store.publish(config, artifact, "job", "fit")
    store.promote(config, sha(b"bb"), "me", "better")
    produce(config, config.topics.models, [None], keys=[b"version/" + sha(b"a").encode()])

    found = store.versions(config)

    assert [(info.version, info.size, info.current) for info in found] == [
        (sha(b"bb"), 2, True),
        (sha(b"ccc"), 3, False),
    ]
    assert 0 < found[0].timestamp_ms <= found[1].timestamp_ms
    with pytest.raises(ModelNotFoundError, match=sha(b"a")):
        store.fetch(config, sha(b"a"))


def test_refused_artifact_leaves_the_pointer(make_config):
    """When the artifact is not acknowledged the pointer does not move."""
    config = make_config(create=False)
    small = NewTopic(config.topics.models, 1, 1, config={"cleanup.policy": "compact", "max.message.bytes": "1000"})
    client = admin(config.kafka)  # futures die with their client
    client.create_topics([small])[config.topics.models].result(30)
    served = store.publish(config, b"small", "job", "fits")

    with pytest.raises(KafkaError, match=config.topics.models):
        store.publish(config, b"x" * 5_000, "job", "does not fit")
    for artifact in (b"", b"x" * (store.MAX_ARTIFACT_BYTES + 1)):
        with pytest.raises(ModelFormatError, match=f"{len(artifact):,} bytes"):
            store.publish(config, artifact, "job", "empty or huge")

    assert store.current(config) == served


def test_artifact_stands_before_its_pointer(make_config):
    """On the log every pointer comes after the artifact that it names."""
    config = make_config()
    for artifact in (b"one", b"two", b"three"):
        store.publish(config, artifact, "job", "fit")

    seen = set()
    for batch in reads.read(config.kafka, config.topics.models, 0, 0, 100):
        for message in batch:
            if message.key() == b"current":
                assert json.loads(message.value())["version"] in seen
            seen.add(message.key().decode().removeprefix("version/"))


def test_damaged_artifact_is_refused(make_config, produce):
    """Bytes that are not what their version says are never handed out, nor pointed to."""
    config = make_config()
    version = sha(b"sound")
    produce(config, config.topics.models, [b"sounD"], keys=[b"version/" + version.encode()])

    for use in (store.fetch, lambda config, version: store.promote(config, version, "me", "try")):
        with pytest.raises(ModelFormatError, match=f"{version} is damaged"):
            use(config, version)

    assert store.current(config) is None


@pytest.mark.parametrize("version", ["", "abc", "current", "../../etc/passwd", "A" * 64, "a" * 64 + "\n", "%2e%2e%2f"])
def test_version_is_digits_and_nothing_else(make_config, version):
    """What is no SHA-256, nor the beginning of one, is refused before anything is asked of the broker."""
    config = make_config(create=False, bootstrap_servers="127.0.0.1:1")

    for use in (store.fetch, store.resolve):
        with pytest.raises(ModelFormatError, match="64 hexadecimal digits"):
            use(config, version)
    with pytest.raises(ModelFormatError, match="64 hexadecimal digits"):
        store.fetch(config, "a" * 63)


def test_beginnings_of_versions_are_resolved(make_config):
    """A beginning that one version has names it; none or several is an error that says so."""
    config = make_config()
    by_prefix, twins, number = {}, (), 0
    while not twins:
        artifact = str(number).encode()
        other = by_prefix.setdefault(sha(artifact)[:4], artifact)
        twins = (other, artifact) if other != artifact else ()
        number += 1
    for artifact in twins:
        store.publish(config, artifact, "job", "fit")

    assert store.resolve(config, sha(twins[0])[:20]) == sha(twins[0])
    with pytest.raises(ModelNotFoundError, match="2 versions begin"):
        store.resolve(config, sha(twins[0])[:4])
    with pytest.raises(ModelNotFoundError, match="no version begins"):
        store.resolve(config, "0" * 64)


def test_compacted_topic_is_read_to_its_end(make_config):
    """After compaction, with holes where old pointers were, current and all versions are still found."""
    config = make_config()
    eager = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "100"}
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in eager.items()]
    resource = ConfigResource(ResourceType.TOPIC, config.topics.models, incremental_configs=entries)
    client = admin(config.kafka)
    client.incremental_alter_configs([resource])[resource].result(30)
    for number in range(6):
        store.publish(config, str(number).encode(), "job", "fit")
        time.sleep(0.15)  # a segment each

    def records():
        return sum(len(batch) for batch in reads.read(config.kafka, config.topics.models, 0, 0, 1_000))

    deadline = time.monotonic() + 60
    while records() == 12 and time.monotonic() < deadline:
        time.sleep(0.5)

    assert records() < 12
    assert store.current(config).version == sha(b"5")
    assert [info.version for info in store.versions(config)] == [sha(str(number).encode()) for number in range(6)]
    assert store.fetch(config, sha(b"0")) == b"0"


def test_watch_sees_the_pointer_and_each_move(make_config):
    """A watch gives the pointer as it stands, then only news, the newest if there are several."""
    config = make_config()
    store.publish(config, b"one", "job", "fit")
    watch = PointerWatch(config)

    def news():
        deadline = time.monotonic() + 20
        while not (moved := watch.poll()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return {key.decode(): pointer and pointer.version for key, pointer in moved.items()}

    assert news() == {"current": sha(b"one")}
    assert watch.poll() == {}
    store.publish(config, b"two", "job", "fit")
    assert news() == {"current": sha(b"two")}
    store.shadow(config, sha(b"one"), "me", "look")
    assert news() == {"shadow": sha(b"one")}
    store.shadow(config, None, "me", "enough")
    assert news() == {"shadow": None}
    watch.close()


def test_a_moved_pointer_is_not_overwritten_unseen(make_config):
    """Who expects another version to serve is told which one does, and which was expected; nothing changes."""
    config = make_config()
    first = store.publish(config, b"one", "job", "fit", expected=store.NOTHING).version
    second = store.publish(config, b"two", "job", "fit", expected=first)

    for expected in (first, store.NOTHING):
        with pytest.raises(PointerMovedError, match=f"{second.version} serves by now, not {expected or 'none'}"):
            store.publish(config, b"three", "job", "fit", expected=expected)

    assert store.current(config) == second


def test_a_pointer_can_be_read_as_soon_as_it_has_moved(make_config, hold_back):
    """Whoever moves it returns only when readers see it, though a commit returns before its marker is written."""
    config = make_config()
    one, two = (store.store(config, artifact) for artifact in (b"one", b"two"))
    assert store.current(config) is None
    store.promote(config, one, "job", "first")
    with hold_back(config, seconds=1.0):
        moved = store.promote(config, two, "job", "second")
        assert store.current(config) == moved
        store.shadow(config, one, "job", "try")
        assert model_pointer.shadow(config).version == one


def test_a_pointer_that_readers_cannot_see_yet_has_moved_all_the_same(make_config, hold_back, monkeypatch):
    """Where another writer's open transaction lies before it, the wait is bounded, and a line says why."""
    config = make_config()
    one, two = (store.store(config, artifact) for artifact in (b"one", b"two"))
    store.promote(config, one, "job", "first")
    monkeypatch.setattr(model_pointer, "READABLE", 0.2)
    with capture_logs() as lines, hold_back(config, seconds=60.0):
        store.promote(config, two, "job", "second")
        assert store.current(config).version == one
    assert [line["event"] for line in lines] == ["the pointer has moved, but readers may see it later"]
    assert store.current(config).version == two


@pytest.mark.telling
def test_of_two_who_move_the_pointer_at_once_one_is_told(make_config):
    """Whoever began later fences the earlier one, which leaves nothing behind and says so."""
    config = make_config()
    one, two = (store.store(config, artifact) for artifact in (b"one", b"two"))

    def overtaken():
        with exclusive_writer(config) as writer:
            assert store.current(config) is None
            later = store.promote(config, two, "later", "race", expected=store.NOTHING)
            writer.point(b"current", dataclasses.replace(later, version=one, who="earlier"))

    with pytest.raises(PointerMovedError, match="nothing was changed"):
        overtaken()

    assert store.current(config).who == "later"


def test_what_fails_half_way_leaves_no_reader_waiting(make_config):
    """A move that breaks after writing is undone at once: the pointer can be read, and has not moved."""
    config = make_config()
    served = store.publish(config, b"one", "job", "fit")

    def broken():
        with exclusive_writer(config) as writer:
            writer.point(b"current", dataclasses.replace(served, who="half-way"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()

    assert store.publish(config, b"two", "job", "fit").previous == served.version


def test_rollback_is_one_step_and_back(make_config):
    """Rolling back serves what served before, without another fit; without anything before it says so."""
    config = make_config()
    with pytest.raises(ModelNotFoundError, match="no model before"):
        store.rollback(config, "me", "too early")
    first, second = (store.publish(config, artifact, "job", "fit").version for artifact in (b"one", b"two"))

    back = store.rollback(config, "me", "worse", approved_by="me")
    assert (back.version, back.previous, back.approved_by, back.approved) == (first, second, "me", first)
    assert store.rollback(config, "job", "or not").version == second


def test_the_last_human_approval_is_remembered(make_config):
    """Programs that promote after a person carry on which version the person chose."""
    config = make_config()
    chosen = store.publish(config, b"one", "me", "good", approved_by="me")
    for artifact in (b"two", b"three"):
        pointer = store.publish(config, artifact, "retrain", "drift")

    assert (pointer.approved_by, pointer.approved) == (None, chosen.version)


def test_pruning_spares_the_newest_and_what_a_pointer_names(make_config):
    """Only versions that nothing names go; what is kept can still be fetched."""
    config = make_config()
    approved = store.publish(config, b"0", "me", "good", approved_by="me").version
    for number in range(1, 6):
        pointer = store.publish(config, str(number).encode(), "job", "fit")
    store.promote(config, sha(b"2"), "job", "fit")

    gone = store.prune(config, keep=1)

    assert gone == [sha(b"1"), sha(b"3"), sha(b"4")]
    assert pointer.version == sha(b"5")
    assert [info.version for info in store.versions(config)] == [approved, sha(b"2"), sha(b"5")]
    assert store.prune(config, keep=0) == []
    assert store.fetch(config, sha(b"2")) == b"2"


def test_missing_models_topic_is_named(make_config):
    """Without a models topic the error names it and the command that makes it."""
    config = make_config(create=False)

    with pytest.raises(TopicMissingError, match=f"'{config.topics.models}'.*topics create"):
        store.current(config)


def test_an_artifact_beyond_the_limit_is_not_taken(make_config, produce, monkeypatch):
    """What another program wrote to the topic is held to the same limit as what we write."""
    config = make_config()
    artifact = b"x" * 2_000
    produce(config, config.topics.models, [artifact], keys=[b"version/" + sha(artifact).encode()])
    assert store.fetch(config, sha(artifact)) == artifact
    monkeypatch.setattr(store, "MAX_ARTIFACT_BYTES", 1_999)
    with pytest.raises(ModelFormatError, match="2,000 bytes, more than the 1,999 allowed"):
        store.fetch(config, sha(artifact))
