"""A group that works with mixed releases is told of, and each release reads the offsets of the others."""

import json
import sys

import pytest
import yaml
from confluent_kafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from workload import feed, fresh_config, published, slotted, small_model, telemetry, until

from stream_detector.cli import main
from stream_detector.health import Health
from stream_detector.kafka.clients import worker_consumer
from stream_detector.kafka.group import UNNAMED, Releases, offset_metadata, progress, release_before, topic_id
from stream_detector.runtime.release import release, release_of_sources
from stream_detector.worker import loop, watch

OTHER = "9.9.9+0123456789ab"
TOPIC_IDS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", min_size=22, max_size=22)


@pytest.fixture
def config(broker):
    return fresh_config(broker)


def offset(metadata):
    return TopicPartition("telemetry", 0, 5, *() if metadata is None else (metadata,))


def commit(config, metadata, *offsets):
    """Commits an offset for each partition, from the first on, as a worker that is gone would have."""
    consumer = worker_consumer(config)
    name = config.topics.telemetry[0]
    places = [TopicPartition(name, partition, at, metadata) for partition, at in enumerate(offsets)]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


@given(TOPIC_IDS)
def test_what_is_committed_beside_an_offset_is_read_back(identity):
    """The topic's id and the release come out as they went in, and without an id there is none."""
    committed = offset(offset_metadata(identity))
    assert (topic_id(committed), release_before(committed)) == (identity, release())
    assert (topic_id(offset(offset_metadata(None))), release_before(offset(offset_metadata(None)))) == (None, release())


@given(TOPIC_IDS)
def test_a_release_that_knows_the_id_alone_is_read_and_believes_what_this_one_commits(identity):
    """It writes `topic_id=ID` and takes all behind that for the id; another id would make it begin the topic anew."""
    earlier = offset(f"topic_id={identity}")
    assert topic_id(earlier) == identity
    assert release_before(earlier) == UNNAMED
    assert not offset_metadata(identity).startswith("topic_id=")


def test_an_offset_of_no_worker_names_no_release():
    """Releases before 0.2.0 commit nothing beside an offset, and people what they like: that is no release and no id."""
    for metadata in (None, "", "by hand", "the release before, topic_id unknown"):
        assert (topic_id(offset(metadata)), release_before(offset(metadata))) == (None, UNNAMED)


def test_a_release_is_named_by_all_of_its_sources(tmp_path):
    """Sources that differ in text, name or folder are another release; equal ones elsewhere are the same."""

    def named(folder, **sources):
        for name, text in sources.items():
            path = tmp_path / folder / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return release_of_sources(tmp_path / folder)

    first = named("one", model="a = 1\n", gan__memory="b = 2\n")
    assert named("two", model="a = 1\n", gan__memory="b = 2\n") == first
    others = [
        named("three", model="a = 1\n", gan__memory="b = 3\n"),
        named("four", model="a = 1\n", memory="b = 2\n"),
        named("five", model="a = 1\nb = 2\n", gan__memory=""),
        named("one", detector=""),
    ]
    assert len({first, *others}) == 5


def test_a_worker_names_its_release_beside_what_it_commits(config):
    """Each partition that it judged names the release; one that nobody committed names none."""
    feed(config, telemetry(60), partitions=2)
    before = [each.release for each in progress(config)]
    loop.run(slotted(config, "w"), small_model, until_end=True)
    assert before == [None] * 3
    assert {each.release for each in progress(config) if each.committed} == {release()}


def test_only_who_commits_now_is_at_work(config):
    """An upgrade goes on from offsets of the release before: those alone are no mix, a commit meanwhile is."""
    beside = f"release={OTHER} topic_id=x"
    commit(config, beside, 1, 1)
    releases, partitions = Releases(config), [(config.topics.telemetry[0], at) for at in range(3)]
    assert releases.others(partitions, 10) == set()
    commit(config, offset_metadata("x"), 2)
    assert releases.others(partitions, 10) == set()
    commit(config, beside, 2, 3)
    assert releases.others(partitions, 10) == {OTHER}
    assert releases.others(partitions, 10) == {OTHER}
    commit(config, "topic_id=x", 3, 4)
    assert releases.others(partitions, 10) == {UNNAMED}
    commit(config, offset_metadata("x"), 4, 5)
    assert releases.others(partitions, 10) == set()
    releases.close()


def test_mixed_releases_are_told_once_as_they_come_and_go(config, monkeypatch):
    """A line in the log names this release and the others, a note stays while they work, and a line ends it."""
    monkeypatch.setattr(watch, "PAUSE", 0.1)
    monkeypatch.setattr(watch, "RELEASES_PAUSE", 0.1)
    health, metadata = Health(), f"release={OTHER} topic_id=x"
    with capture_logs() as lines, watch.TopicWatch(config, (), health) as looking:
        until(lambda: looking.ids, "it has seen the topics")
        for at in range(1, 60):
            commit(config, metadata, at)
            if health.remarks():
                break
        (note,) = health.remarks()
        commit(config, offset_metadata("x"), 100)
        until(lambda: not health.remarks(), "the note is gone")
    told = [(line["log_level"], line["this"], line.get("others")) for line in lines if "release" in line["event"]]
    assert told == [("warning", release(), OTHER), ("info", release(), None)]
    assert OTHER in note
    assert config.kafka.group_id in note


@pytest.mark.parametrize(("other", "mixed"), [(OTHER, True), (release(), False)])
def test_status_says_which_releases_a_group_is_made_of(config, monkeypatch, capsys, tmp_path, other, mixed):
    """A line names each release and how many partitions it judged last; with one release there is none."""
    published(config, small_model())
    commit(config, offset_metadata("x"), 1, 1)
    commit(config, f"release={other} topic_id=x", 2)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", include={"kafka", "topics"}, exclude_none=True)))
    monkeypatch.setenv("COLUMNS", "240")

    def status(*args):
        monkeypatch.setattr(sys, "argv", ["stream-detector", "status", *args, "-c", str(path)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    lines = [line for line in status().splitlines() if line.startswith("releases: ")]
    assert len(lines) == mixed
    assert all(f"{name} judged 1 partition last" in line for line in lines for name in (OTHER, release()))
    told = json.loads(status("--json"))
    assert told["releases"] == ({OTHER: 1, release(): 1} if mixed else {release(): 2})
    assert [each["release"] for each in told["partitions"]] == [other, release(), None]
