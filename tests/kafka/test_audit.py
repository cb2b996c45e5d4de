"""Audit: any judgement can be made again from the log, and what cannot is told apart from what differs."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import yaml
from confluent_kafka import TopicPartition
from workload import THRESHOLD, Running, committed, feed, fresh_config, record, small_model, telemetry, with_alerts

from stream_detector.audit import alerts_topic
from stream_detector.audit.backtest import backtest
from stream_detector.audit.differences import differences
from stream_detector.audit.replay import RecordPosition, judgement, model_in_force, replay
from stream_detector.errors import NotRetainedError
from stream_detector.kafka.clients import admin
from stream_detector.registry import store

RECORDS = 1_800
# Recent: half a minute after its start the broker deletes what has expired.
BEGIN_MS = round(time.time() - 3_600) * 1_000


@pytest.fixture(scope="module")
def judged(broker):
    """Three partitions, judged by one worker with one model; every hundredth record is no JSON."""
    config = fresh_config(
        broker, threshold=THRESHOLD, worker={"session_timeout_ms": 6_000, "transaction_timeout_ms": 3_000}
    )
    store.publish(config, small_model().to_bytes(), who="test", why="first")
    values = [b"{" if at % 100 == 50 else value for at, value in enumerate(telemetry(RECORDS))]
    feed(config, values[: RECORDS // 2], timestamp=BEGIN_MS)
    feed(config, values[RECORDS // 2 :], timestamp=BEGIN_MS + 60_000)
    with Running(config, None, until_end=True) as running:
        running.join()
    return config


@pytest.fixture
def path(judged, tmp_path):
    """The configuration file of the judged topics, for the command."""
    return written(judged, tmp_path)


def written(config, folder, **sections):
    names = config.topics.model_dump(exclude={"partitions", "replication"}, mode="json")
    kafka = {"bootstrap_servers": config.kafka.bootstrap_servers, "group_id": config.kafka.group_id}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({"kafka": kafka, "topics": names, "threshold": THRESHOLD, **sections}))
    return file


def place(alert):
    return RecordPosition(alert.topic, alert.partition, alert.offset)


@pytest.mark.telling
def test_every_alert_replays_to_itself(judged):
    """All alerts, warming ones among them, come out field by field as they were raised."""
    found_alerts = list(alerts_topic.everything(judged))
    assert {alert.threshold_state for alert in found_alerts} == {"warming", "rolling"}
    model = small_model()
    again = {alert.id: judgement(judged, model, place(alert)) for alert in found_alerts}
    assert [(alert.id, found) for alert in found_alerts if (found := differences(alert, again[alert.id]))] == []


def test_what_was_not_flagged_is_judged_normal_or_dead_again(judged):
    """A record without an alert is explained too, with its threshold; one that is no JSON is a dead letter."""
    flagged = {place(alert) for alert in alerts_topic.everything(judged)}
    topic = judged.topics.telemetry[0]
    normal = next(p for at in range(300, 400) if (p := RecordPosition(topic, 0, at)) not in flagged)
    said = judgement(judged, small_model(), normal)
    assert said.disposition == "normal"
    assert said.account.score <= said.account.threshold
    assert sum(each.contribution for each in said.account.contributions) == pytest.approx(1)
    assert said.history == normal.offset - len([at for at in range(normal.offset) if is_broken(at)])

    letter = judgement(judged, small_model(), RecordPosition(topic, 50 % 3, 50 // 3))
    assert (letter.disposition, letter.account.reason) == ("dead-lettered", "undecodable")


def is_broken(offset, partition=0):
    return (3 * offset + partition) % 100 == 50


def test_the_model_in_force_is_the_one_that_alerts_name(judged):
    """A flagged record's own alert names it; between two that agree it is theirs; at the end it is the current."""
    flagged = sorted(a.offset for a in alerts_topic.everything(judged) if a.partition == 0)
    topic, version = judged.topics.telemetry[0], small_model().version
    between = next(at for at in range(flagged[0], flagged[-1]) if at not in flagged)
    for offset, known in ((flagged[0], "its alert"), (between, "before and after"), (flagged[-1] + 1, "current now")):
        found, how = model_in_force(judged, RecordPosition(topic, 0, offset))
        assert found == version
        assert known in how


def test_a_tampered_alert_is_a_mismatch_that_names_the_field(judged, tmp_path, path, command):
    """A forged score and a forged expectation are both shown, and the exit code is 8."""
    honest = next(alert for alert in alerts_topic.everything(judged) if alert.partition == 1)
    first = honest.contributions[0]._replace(expected=-1e6)
    forged = replace(honest, score=honest.score + 0.0001, contributions=(first, *honest.contributions[1:]))
    assert command("replay", honest.id, "-c", path)[0] == 0

    config = with_alerts(judged, [forged])
    fields = [difference.field for difference in replay(config, honest.id).differences]
    code, out, err = command("replay", honest.id, "-c", written(config, tmp_path), "--json")
    assert fields == ["score", f"features.{first.feature}.expected"]
    assert (code, json.loads(out)["match"]) == (8, False)
    assert "score" in err


def test_an_alert_of_another_threshold_setting_differs(judged, tmp_path, command):
    """Replayed under another target alert rate, the threshold differs: 8, with the sections to look at."""
    alert = next(a for a in alerts_topic.everything(judged) if a.threshold_state == "rolling")
    other = written(judged, tmp_path, threshold=THRESHOLD | {"target_alert_rate": 0.05})
    code, out, err = command("replay", alert.id, "-c", other)
    assert code == 8
    assert "'threshold' and 'record'" in err
    assert "threshold" in out


def test_commands_answer_for_people_and_for_programs(judged, path, command):
    """`explain` shows a table or JSON, `replay` says match; both exit with 0."""
    alert = next(a for a in alerts_topic.everything(judged) if a.partition == 2)
    where = ("--partition", alert.partition, "--offset", alert.offset)
    code, out, _ = command("explain", *where, "-c", path)
    assert code == 0
    assert f"flagged: score {alert.score:g} is over threshold {alert.threshold:g}" in out
    assert all(name in out for name in ("cpu", "memory", "latency", "kind", "contribution"))

    _, out, _ = command("explain", *where, "--json", "--model", small_model().version[:8], "-c", path)
    said = json.loads(out)
    assert (said["disposition"], said["score"], said["id"]) == ("flagged", alert.score, alert.id)
    assert command("replay", alert.id, "-c", path)[1].startswith("match: ")
    code, _, err = command("explain", "--partition", 0, "--offset", 10**6, "-c", path)
    assert (code, "not written yet" in err) == (9, True)


def test_a_backtest_of_the_model_in_force_adds_and_loses_nothing(judged):
    """Over the whole topic and over a part of its time it raises the very alerts on record; nothing is committed."""
    before = committed(judged)
    steps = []
    whole = backtest(judged, small_model(), BEGIN_MS, None, lambda *step: steps.append(step))
    late = backtest(judged, small_model(), BEGIN_MS + 60_000, None, lambda *_: None)
    early = backtest(judged, small_model(), 0, BEGIN_MS + 60_000, lambda *_: None)

    assert (whole.records, late.records, early.records) == (RECORDS, RECORDS / 2, RECORDS / 2)
    for each in (whole, late, early):
        assert each.raised == each.recorded
    assert whole.raised == early.raised | late.raised
    assert len(whole.raised) > 10
    assert whole.dead_lettered == RECORDS / 100
    assert steps[-1][0] == steps[-1][1] == RECORDS
    assert committed(judged) == before


def test_a_backtest_of_another_model_shows_what_it_would_change(judged, path, command):
    """Added and lost alerts are listed, and make up the difference between the two sets."""
    pointer = store.current(judged)
    other = store.publish(judged, small_model(1).to_bytes(), who="test", why="another")
    store.promote(judged, pointer.version, who="test", why="back")
    since = datetime.fromtimestamp(BEGIN_MS / 1000, UTC).isoformat()
    code, out, err = command("backtest", "--from", since, "--model", other.version[:10], "--json", "-c", path)
    assert code == 0, err
    said = json.loads(out)
    assert (said["model"], said["records"]) == (other.version, RECORDS)
    assert said["alerts"] - len(said["added"]) == said["alerts_on_record"] - len(said["lost"])
    assert said["added"] or said["lost"]
    assert "100 %" in err
    code, out, err = command("backtest", "--from", since, "-c", path)
    assert code == 0, err
    assert out.count("0 added, 0 lost") == 1


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--from", "yesterday"), 2, "RFC 3339"),
        (("--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"), 2, "not after"),
        (("--from", "2100-01-01T00:00:00Z"), 9, "no record of that time"),
    ],
)
def test_a_time_that_cannot_be_is_said(path, command, args, code, says):
    """Bad times are usage errors, a time without records has its own exit code."""
    got, _, err = command("backtest", *args, "-c", path)
    assert (got, says in err) == (code, True)


def test_what_retention_took_is_told_apart_from_a_mismatch(broker, tmp_path, command):
    """Without its history an alert cannot be checked, without its record or model not replayed: 9, not 8."""
    config = fresh_config(broker, threshold=THRESHOLD | {"window": 200})
    store.publish(config, small_model().to_bytes(), who="test", why="first")
    quiet = [record(cpu=50 + at % 7, memory=30 + at % 5) for at in range(300)]
    feed(config, [*quiet, record(cpu=400.0), *quiet], partitions=1)
    with Running(config, None, until_end=True) as running:
        running.join()
    topic, alert_id = config.topics.telemetry[0], f"{config.topics.telemetry[0]}-0-300"
    path = written(config, tmp_path, threshold=THRESHOLD | {"window": 200})
    assert command("replay", alert_id, "-c", path)[0] == 0

    delete_before(config, topic, 0, 150)
    code, _, err = command("replay", alert_id, "-c", path)
    assert code in (0, 9), err  # fewer scores may make the same threshold
    delete_before(config, topic, 0, 290)
    code, _, err = command("replay", alert_id, "-c", path)
    assert (code, "retention left 10 scores" in err) == (9, True)
    delete_before(config, topic, 0, 301)
    code, _, err = command("replay", alert_id, "-c", path)
    assert (code, "deleted by retention, the partition begins at 301" in err) == (9, True)
    code, _, err = command("replay", f"{topic}-0-299", "-c", path)
    assert (code, "not on topic" in err) == (9, True)


def delete_before(config, topic, partition, offset):
    client = admin(config.kafka)
    [future] = client.delete_records([TopicPartition(topic, partition, offset)]).values()
    future.result(30)


def test_an_alert_whose_model_is_gone_cannot_be_replayed(judged):
    """The version that the alert names is said to be missing."""
    alert = next(alert for alert in alerts_topic.everything(judged) if alert.partition == 0)
    unknown = "0" * 64
    config = with_alerts(judged, [replace(alert, model_version=unknown)])
    with pytest.raises(NotRetainedError, match=f"{unknown} is not on topic"):
        replay(config, alert.id)
