"""Feedback on alerts: kept by alert id, the last word counts, and only alerts that exist are judged."""

import json
from dataclasses import replace

import pytest
import yaml
from workload import everything

from stream_detector.audit import alerts_topic
from stream_detector.audit.feedback_topic import give, latest
from stream_detector.errors import ConfigError, NotRetainedError, TopicMissingError
from stream_detector.records import Alert
from stream_detector.records.feedback import Verdict, precision

ALERT = Alert(
    "telemetry",
    0,
    7,
    b"web",
    None,
    None,
    None,
    "2026-01-01T00:00:00Z",
    "f" * 64,
    3.2,
    2.7,
    "rolling",
    3.0,
    3.1,
    "minor",
    (),
)


@pytest.fixture
def config(make_config, produce):
    """Alerts on records 0 to 119 of partition 0, spread over the alerts topic, with rubbish between."""
    config = make_config()
    for partition in range(3):
        values = [replace(ALERT, offset=offset).to_json() for offset in range(partition, 120, 3)]
        produce(config, config.topics.alerts, [b"no alert", *values, b"{}"], partition)
    return config


def identifier(offset):
    return f"telemetry-0-{offset}"


def test_the_last_verdict_on_an_alert_counts(config):
    """Each alert has one verdict, the latest given, with its note, its author and its time."""
    give(config, identifier(3), Verdict.ANOMALY, "first thought", "ana")
    give(config, identifier(4), Verdict.ANOMALY, "", "ana")
    given = give(config, identifier(3), Verdict.FALSE_ALARM, "a planned restart", "ben")

    keys = [message.key() for message in everything(config, config.topics.feedback)]
    assert keys == [identifier(each).encode() for each in (3, 4, 3)]  # so that compaction keeps the last word
    found = latest(config)
    assert set(found) == {identifier(3), identifier(4)}
    assert found[identifier(3)] == given
    assert (given.verdict, given.note, given.who) == (Verdict.FALSE_ALARM, "a planned restart", "ben")
    assert precision(found).value == 0.5


def test_an_alert_is_found_by_its_whole_id(config):
    """The alert of record 1 is that one, not the one of record 11 or 117, whichever partition holds it."""
    for offset in (1, 11, 117):
        assert alerts_topic.find(config, identifier(offset)).offset == offset
    assert {alert.offset for alert in alerts_topic.everything(config)} == set(range(120))


@pytest.mark.parametrize("alert_id", ["telemetry-0-120", "telemetry-1-7", "other-0-7"])
def test_a_verdict_on_an_alert_that_is_not_there_is_refused(config, alert_id):
    """Nothing is written, and the message names the id and the topic."""
    with pytest.raises(NotRetainedError, match=f"{alert_id}.*{config.topics.alerts}"):
        give(config, alert_id, Verdict.ANOMALY, "", "ana")
    assert latest(config) == {}


@pytest.mark.parametrize("alert_id", ["", "telemetry", "telemetry-7", "-1-7", "telemetry-0-x", "telemetry-0-²"])
def test_what_is_no_alert_id_is_said(config, alert_id):
    """The message shows what one looks like."""
    with pytest.raises(ConfigError, match="TOPIC-PARTITION-OFFSET"):
        give(config, alert_id, Verdict.ANOMALY, "", "ana")


def test_foreign_records_do_no_harm(config, produce):
    """What cannot be read is passed over, and a record without a value withdraws its verdict."""
    for offset in (3, 4):
        give(config, identifier(offset), Verdict.ANOMALY, "", "ana")
    broken = [b"", b"\xff", b"[]", b'{"alert": 1, "verdict": "anomaly", "note": "", "who": "", "time": ""}', b"null"]
    wrong = {"alert": identifier(4), "verdict": "perhaps", "note": "", "who": "", "time": ""}
    keys = [identifier(4).encode()] * 6 + [identifier(3).encode()]
    produce(config, config.topics.feedback, [*broken, json.dumps(wrong).encode(), None], keys=keys)
    assert set(latest(config)) == {identifier(4)}


def test_a_missing_feedback_topic_is_named(make_config):
    """Before anything is searched, the topic to create is named."""
    config = make_config(create=False)
    with pytest.raises(TopicMissingError, match=config.topics.feedback):
        give(config, identifier(1), Verdict.ANOMALY, "", "ana")


def test_the_command_takes_a_verdict_and_sums_up(config, tmp_path, command):
    """A verdict given on the command line is in the summary; one on no alert exits with 9."""
    path = tmp_path / "c.yaml"
    path.write_text(
        yaml.safe_dump({"kafka": {"bootstrap_servers": config.kafka.bootstrap_servers}, **topic_names(config)})
    )

    code, out, _ = command("feedback", "--summary", "-c", path)
    assert (code, "no verdicts yet" in out) == (0, True)
    for offset, verdict in ((1, "anomaly"), (2, "anomaly"), (3, "false-alarm")):
        assert command("feedback", identifier(offset), "--verdict", verdict, "--note", "[b]", "-c", path)[0] == 0
    assert command("feedback", identifier(999), "--verdict", "anomaly", "-c", path)[0] == 9

    code, out, _ = command("feedback", "--summary", "-c", path)
    assert "3 alerts judged: 2 anomalies, 1 false alarms; precision 66.7%" in out
    _, out, _ = command("feedback", "--summary", "--json", "-c", path)
    assert json.loads(out) == {"judged": 3, "anomalies": 2, "false_alarms": 1, "precision": 2 / 3}


@pytest.mark.parametrize(
    "args", [(), ("t-0-1",), ("--verdict", "anomaly"), ("t-0-1", "--verdict", "anomaly", "--summary")]
)
def test_half_a_command_says_what_is_missing(command, args):
    """Usage errors exit with 2 before anything is opened."""
    code, _, err = command("feedback", *args)
    assert code == 2
    assert "ALERT_ID with --verdict" in err


def topic_names(config):
    names = config.topics.model_dump(include={"telemetry", "alerts", "dead_letters", "models", "feedback"})
    return {"topics": {**names, "telemetry": list(names["telemetry"])}}
