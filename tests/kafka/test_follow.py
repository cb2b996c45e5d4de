"""Programs beside the detector on a real broker: feeding a topic, following one, and a place of one's own."""

import json
from itertools import islice

import pytest

from consumers import tail
from producers import simulator
from producers.simulator import Simulation, simulate
from stream_detector.errors import TopicMissingError
from stream_detector.kafka import topics
from stream_detector.kafka.clients import transactional_producer
from stream_detector.kafka.follow import follow
from stream_detector.kafka.group import progress
from stream_detector.kafka.sandbox import begin_at_end, sandbox
from stream_detector.records import Alert

ALERT = Alert(
    "telemetry",
    0,
    7,
    b"k",
    "e",
    "mail",
    None,
    "2026-01-01T00:00:00Z",
    "f" * 64,
    3.2,
    2.7,
    "rolling",
    3.0,
    3.1,
    "warning",
    (),
)


@pytest.fixture
def config(make_config):
    return make_config()


def values(config, topic, **options):
    return [message.value() for message in follow(config.kafka, topic, **options)]


def test_what_is_there_is_read_to_its_end(config, produce):
    """From the beginning and not endless: every record of every partition, then it stops by itself."""
    topic = config.topics.alerts
    produce(config, topic, [b"a", b"b"], partition=0)
    produce(config, topic, [b"c"], partition=1)

    assert {b"a", b"b", b"c"} == set(values(config, topic, from_beginning=True, endless=False))
    assert values(config, topic, endless=False) == []


def test_what_comes_later_is_followed(config, produce):
    """Endless: records written after the end was reached come too, in order."""
    topic = config.topics.alerts
    produce(config, topic, [b"a"])
    following = follow(config.kafka, topic, from_beginning=True)

    assert next(following).value() == b"a"
    produce(config, topic, [b"b", b"c"])
    assert [message.value() for message in islice(following, 2)] == [b"b", b"c"]
    following.close()


def test_aborted_records_are_not_shown(config):
    """A follower sees what was committed, and nothing that was taken back."""
    topic = config.topics.alerts
    producer = transactional_producer(config)
    producer.init_transactions(30)
    for value, end in ((b"taken back", producer.abort_transaction), (b"kept", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        producer.flush(30)
        end(30)

    assert values(config, topic, from_beginning=True, endless=False) == [b"kept"]


def test_a_follower_can_be_stopped(config):
    """On an empty topic it waits until it is told to stop."""
    answers = iter((False, False, True))

    assert values(config, config.topics.alerts, stop=lambda: next(answers)) == []


def test_tail_prints_the_alerts_as_json(config, produce, capsys):
    """`--json` gives one alert a line, as it stands on the topic."""
    produce(config, config.topics.alerts, [ALERT.to_json(), b"no alert"])
    address = ["--bootstrap-servers", config.kafka.bootstrap_servers, "--topic", config.topics.alerts]

    assert tail.main([*address, "--from-beginning", "--json"]) == 0
    out, error = capsys.readouterr()
    assert [json.loads(ALERT.to_json())] == [json.loads(line) for line in out.splitlines()]
    assert "holds no alert" in error


def test_the_simulator_feeds_a_topic_in_order(config):
    """All records arrive, each entity's in one partition and in order."""
    topic = config.topics.telemetry[0]
    address = ["--bootstrap-servers", config.kafka.bootstrap_servers, "--topic", topic]

    assert simulator.main([*address, "--records", "500", "--seed", "4"]) == 0
    got = [(m.partition(), m.key(), m.value()) for m in follow(config.kafka, topic, from_beginning=True, endless=False)]
    sent = list(simulate(Simulation(seed=4, records=500)))
    for entity in {sample.entity for sample in sent}:
        own = [value for _, key, value in got if key == entity.encode()]
        assert [sample.to_json() for sample in sent if sample.entity == entity] == own
        assert len({partition for partition, key, _ in got if key == entity.encode()}) == 1
    assert len(got) == 500


def test_a_missing_topic_is_named(config, capsys):
    """Neither feeding nor following makes a topic up: one line names it, exit code 5."""
    address = ["--bootstrap-servers", config.kafka.bootstrap_servers, "--topic", "nowhere"]

    assert simulator.main([*address, "--records", "1"]) == 5
    assert tail.main([*address, "--from-beginning"]) == 5
    lines = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in lines if "'nowhere'" in line]) == 2


def test_a_sandbox_is_gone_afterwards(make_config):
    """Its topics exist inside, bear names of their own, and are deleted on leaving."""
    base = make_config(create=False)
    with sandbox(base) as own:
        topic = own.topics.telemetry[0]
        assert topic != base.topics.telemetry[0]
        topics.require(own.kafka, [topic, own.topics.alerts])

    with pytest.raises(TopicMissingError):
        topics.require(own.kafka, [topic])


def test_a_group_can_begin_at_the_end(config, produce):
    """What is on the topic already is behind the group; what comes next is before it."""
    topic = config.topics.telemetry[0]
    produce(config, topic, [b"{}"] * 3)
    begin_at_end(config)
    produce(config, topic, [b"{}"])

    assert sum(partition.lag for partition in progress(config)) == 1
