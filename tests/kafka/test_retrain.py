"""Retraining on a real broker: what is learnt from, what is published, and what leaves everything as it was."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from confluent_kafka import TopicPartition
from formats import batch
from workload import MODEL_CONFIG, Running, alerts, command_drawing, everything, feed, small_model, telemetry

from stream_detector.audit import feedback_topic
from stream_detector.errors import DataError, ModelSchemaError, PointerMovedError, TopicMissingError
from stream_detector.kafka.clients import admin
from stream_detector.model import DetectorModel
from stream_detector.records.feedback import Verdict
from stream_detector.registry import store
from stream_detector.retraining import job
from stream_detector.retraining.job import Trigger, retrain
from stream_detector.retraining.telemetry_window import read_window

LENIENT = {"least_auc": 0.5, "least_coverage": 0.0, "threshold_move": 5.0, "threshold_move_since_approval": 5.0}
MODEL = MODEL_CONFIG["model"]


def quiet(*_):
    pass


@pytest.fixture
def make_own(make_config, tmp_path, no_pictures):
    """`make_own(least_records=300)`: a configuration with quick fits, a lenient gate and runs of its own."""

    def make(gate=None, steps=100, **retrain):
        settings = {"records": 2_000, "least_records": 300, "runs": tmp_path / "runs", "gate": LENIENT | (gate or {})}
        threshold = {"window": 500, "warmup": 100, "target_alert_rate": 0.02}
        return make_config(model=MODEL | {"steps": steps}, threshold=threshold, retrain=settings | retrain)

    return make


def run_once(config, **options):
    return retrain(config, Trigger("test"), "tester", quiet, **options)


def report(config):
    (run,) = config.retrain.runs.iterdir()
    return json.loads((run / "report.json").read_text())


@pytest.mark.telling
def test_a_first_model_then_a_second(make_own):
    """Without a champion the absolute checks decide; with one, it is compared with, and the pointer moves to the new one."""
    config = make_own()
    feed(config, telemetry(900, anomalies=0.0))

    first = run_once(config)
    feed(config, telemetry(900, seed=1, anomalies=0.0))
    second = run_once(config)

    assert first.gate.passed
    assert second.gate.passed, second.gate
    pointer = store.current(config)
    assert (pointer.version, pointer.previous) == (second.model.version, first.model.version)
    assert (pointer.approved_by, pointer.first) == (None, first.model.version)
    assert (pointer.who, pointer.why) == ("tester", "test")
    assert abs((datetime.now(UTC) - pointer.moment).total_seconds()) < 60
    names = {check.name for check in second.gate.checks}
    assert {"synthetic-auc-champion", "threshold-move"} <= names
    assert not names & {check.name for check in first.gate.checks if "champion" in check.name}


def test_only_records_that_are_young_enough_are_learnt_from(make_own):
    """`retrain.since` bounds the window by time, whatever `records` allows."""
    config = make_own(since=3600)
    now = round(1000 * time.time())
    feed(config, telemetry(600, anomalies=0.0), partitions=1, timestamp=now - 7_200_000)
    feed(config, telemetry(900, seed=1, anomalies=0.0), partitions=1, timestamp=now - 60_000)

    ((_, offsets),) = run_once(config).model.lineage["offsets"].items()
    assert offsets == [600, 1499]


def test_a_first_fit_that_nobody_looked_at_is_no_approval(make_own, command, tmp_path):
    """`fit --if-missing` says in the pointer that it was automatic; the gate then holds on to that first model, by
    name, until a person approves one.
    """
    config = make_own()
    feed(config, telemetry(900, anomalies=0.0))
    fit = ("fit", "--from-topic", "--records", 900, "--publish", "--if-missing", "-c", in_file(config, tmp_path / "c"))
    assert command(*fit)[0] == 0
    first = store.current(config)
    assert (first.approved_by, first.approved, first.first) == (None, None, first.version)
    assert "automatic" in first.why
    assert command(*fit)[0] == 0
    assert store.current(config) == first

    def since(outcome):
        return next(check.meaning for check in outcome.gate.checks if check.name == "threshold-move-approved")

    assert "the first model; no person has approved any" in since(run_once(config))
    assert store.current(config).anchor == first.version
    store.promote(config, first.version, "ana", "I have looked", approved_by="ana")
    assert "that a person approved last" in since(run_once(config, publish=False))


def test_a_report_says_what_was_not_checked_and_which_reference_set_was_used(make_own, command, tmp_path):
    """Checks that could not be made are in both reports and on the terminal, with the reason; the set by its SHA-256."""
    rows = [json.loads(value)["features"] for value in telemetry(40, anomalies=0.0)]
    labelled = [(row | ({"cpu": 300.0} if at < 20 else {}), int(at < 20)) for at, row in enumerate(rows)]
    lines = [",".join((*rows[0], "label")), *(",".join(map(str, (*row.values(), is_one))) for row, is_one in labelled)]
    reference = tmp_path / "reference.csv"
    reference.write_text("\n".join(lines) + "\n")
    config = make_own(gate={"reference": reference})
    feed(config, telemetry(900, anomalies=0.0))

    code, out, _ = command("retrain", "--once", "--dry-run", "-c", in_file(config, tmp_path / "c"))

    assert code in {0, 7}
    kept = report(config)
    assert kept["reference"] == sha256(reference.read_bytes()).hexdigest()
    assert {each["name"]: each["why"] for each in kept["not_checked"]}["threshold-move"] == "no model is in force yet"
    assert "reference-auc" in {check["name"] for check in kept["checks"]}
    (run,) = config.retrain.runs.iterdir()
    page = (run / "report.md").read_text()
    assert kept["reference"] in page
    assert "| threshold-move | | | not checked | no model is in force yet |" in page
    assert "not checked" in out


def test_excluded_intervals_are_left_out_and_counted(make_own):
    """Records written in an interval that the operator excludes are in no part, and the lineage says how many."""
    begin = datetime(2026, 1, 1, 12, tzinfo=UTC)
    config = make_own(exclude=[{"begin": begin, "end": begin + timedelta(minutes=10)}])
    at = round(1000 * begin.timestamp())
    for seed, count, offset in ((0, 450, -1), (1, 150, 0), (2, 120, 599_999), (3, 450, 600_000)):
        feed(config, telemetry(count, seed=seed, anomalies=0.0), partitions=1, timestamp=at + offset)

    lineage = run_once(config).model.lineage
    assert lineage["left_out"] == {"excluded-interval": 270}
    assert sum(lineage["parts"].values()) == 900


def test_a_window_of_messages_that_hold_many_records_stays_within_its_cap(make_config):
    """Of Arrow batches the newest records are read, and never more than `retrain.records`."""
    config = make_config(record={"format": "arrow"}, retrain={"records": 500, "least_records": 100})
    rows = [json.loads(value) for value in telemetry(2_000, anomalies=0.0)]
    batches = [batch(rows[first : first + 200]) for first in range(0, 2_000, 200)]
    feed(config, batches, partitions=1)

    place = (config.topics.telemetry[0], 0)
    window = read_window(config, {place: (0, 10)}, quiet)
    assert len(window.records) == 500
    assert window.records[-1].source == (*place, 9)
    assert min(record.source[2] for record in window.records) == 7


def test_what_is_left_out_is_counted_in_the_artifact(make_own, produce):
    """Flagged, confirmed, undecodable, excluded: each is counted by its reason, and the offsets are named."""
    config = make_own(guard_band=1.0)
    counts = feed(config, telemetry(1500, anomalies=0.02))
    produce(config, config.topics.telemetry[0], [b"no json", b"[]", b'{"features": {"cpu": "text"}}'])
    store.publish(config, small_model().to_bytes(), "tester", "first")
    with Running(config, small_model(), until_end=True) as running:
        running.join()
    raised = [f"{config.topics.telemetry[0]}-{partition}-{offset}" for partition, offset in alerts(config)]
    for alert in raised[:3]:
        feedback_topic.give(config, alert, Verdict.ANOMALY, "", "tester")
    feedback_topic.give(config, raised[3], Verdict.FALSE_ALARM, "", "tester")

    lineage = run_once(config, publish=False).model.lineage

    left_out = lineage["left_out"]
    assert (left_out["undecodable"], left_out["not-an-object"], left_out["wrong-type"]) == (1, 1, 1)
    assert left_out["called-anomalous"] == 3
    assert 0 < left_out["flagged"] <= len(raised) - 4
    assert sum(left_out.values()) + sum(lineage["parts"].values()) == 1503
    assert lineage["champion"] == small_model().version
    topic = config.topics.telemetry[0]
    assert lineage["offsets"] == {f"{topic}-{partition}": [0, counts[partition] - 1] for partition in range(3)}


def test_confirmed_anomalies_are_tried_by_the_gate(make_own, produce):
    """An anomaly that feedback confirmed is asked of the new model, also when it is older than the window."""
    config = make_own(records=900)
    feed(config, telemetry(600, seed=3, anomalies=0.05))
    store.publish(config, small_model().to_bytes(), "tester", "first")
    with Running(config, small_model(), until_end=True) as running:
        running.join()
    partition, offset = min(alerts(config), key=lambda place: place[1])
    feedback_topic.give(config, f"{config.topics.telemetry[0]}-{partition}-{offset}", Verdict.ANOMALY, "", "tester")
    strange = b'{"alert": "x", "verdict": "anomaly", "note": "", "who": "", "time": ""}'
    produce(config, config.topics.feedback, [b"no verdict", strange], keys=[b"a", b"x"])
    feed(config, telemetry(900, seed=4, anomalies=0.0))

    outcome = run_once(config, publish=False)

    (check,) = (check for check in outcome.gate.checks if check.name == "feedback-detection")
    assert "1 anomalies" in check.meaning
    assert check.passed


def test_the_same_offsets_and_seed_give_the_same_version(make_own):
    """While the records are retained and the same model serves, a repetition is equal to the byte; another seed is not."""
    config = make_own()
    feed(config, telemetry(900, anomalies=0.0))
    store.publish(config, small_model().to_bytes(), "tester", "first")

    first, second = (run_once(config, publish=False).model.version for _ in range(2))
    other = run_once(config.model_copy(update={"seed": 1}), publish=False).model.version

    assert first == second != other


def test_a_retraining_can_be_made_again(make_own, command, tmp_path):
    """From its run directory, whatever was said and served since: `match`, or exit code 8 when records are gone."""
    config = make_own()
    feed(config, telemetry(900, anomalies=0.0))
    store.publish(config, small_model().to_bytes(), "tester", "first")
    outcome = run_once(config)
    assert outcome.published
    feed(config, telemetry(300, seed=7))
    path = in_file(config, tmp_path / "c.yaml")

    code, out, _ = command("retrain", "--repeat", outcome.run.path, "-c", path)
    assert (code, out.strip()) == (0, f"match: version {outcome.model.version}")

    client = admin(config.kafka)  # futures die with their client
    gone = TopicPartition(config.topics.telemetry[0], 0, 50)
    next(iter(client.delete_records([gone]).values())).result(30)
    code, _, err = command("retrain", "--repeat", outcome.run.path, "-c", path)
    assert code == 8
    assert outcome.model.version[:12] in err
    assert command("retrain", "--repeat", tmp_path, "-c", path)[0] == 2


def test_a_reference_set_that_does_not_fit_is_found_before_training(make_own, tmp_path):
    """A wrong file is an error that names it, and no run is begun."""
    reference = tmp_path / "reference.csv"
    reference.write_text("cpu,label\n" + "fast,1\n" * 10 + "50,0\n" * 10)
    config = make_own(gate={"reference": reference})
    feed(config, telemetry(600, anomalies=0.0))
    store.publish(config, small_model().to_bytes(), "tester", "first")

    with pytest.raises(DataError, match="the reference set, row 1: feature 'cpu' is str"):
        run_once(config)
    assert not config.retrain.runs.exists()


def test_a_refused_model_changes_nothing(make_own):
    """A failed check is named, its figures are in the run directory, and the pointer stays."""
    config = make_own(gate={"least_auc": 1.0})
    feed(config, telemetry(900, anomalies=0.0))
    served = store.publish(config, small_model().to_bytes(), "tester", "first")

    outcome = run_once(config)

    assert not outcome.published
    assert store.current(config) == served
    assert [info.version for info in store.versions(config)] == [served.version]
    assert "synthetic-auc is 0." in str(outcome.refusal())
    kept = report(config)
    assert kept["result"] == "refused"
    assert {check["name"]: check["passed"] for check in kept["checks"]}["synthetic-auc"] is False
    assert "**failed**" in (outcome.run.path / "report.md").read_text()


def test_of_two_retrainings_at_once_one_wins(make_own, monkeypatch):
    """Who finds that another model serves by now says so, publishes nothing, and keeps its report."""
    config = make_own()
    feed(config, telemetry(900, anomalies=0.0))
    first = store.publish(config, small_model().to_bytes(), "tester", "first")

    def overtaken(*arguments):
        store.publish(config, small_model(1).to_bytes(), "somebody else", "faster")
        return honest(*arguments)

    honest = job.run_checks
    monkeypatch.setattr(job, "run_checks", overtaken)

    with pytest.raises(PointerMovedError, match=small_model(1).version):
        run_once(config)

    assert store.current(config).version == small_model(1).version
    assert store.current(config).previous == first.version
    assert "somebody else was faster" in report(config)["result"]


def test_windows_that_cannot_be_learnt_from_are_one_line(make_own, produce):
    """No data, too few, a broken schema, a stuck sensor, a missing topic: each says what to do, and nothing is published."""
    config = make_own()
    with pytest.raises(DataError, match="holds no record"):
        run_once(config)
    feed(config, telemetry(100, anomalies=0.0))
    with pytest.raises(DataError, match=r"100 normal records .* retrain.least_records is 300"):
        run_once(config)
    with pytest.raises(TopicMissingError, match="no-alerts-here"):
        run_once(config.model_copy(update={"topics": config.topics.model_copy(update={"alerts": "no-alerts-here"})}))
    assert store.current(config) is None


def values(**changes):
    """600 records' values, with features replaced; None leaves a feature out."""
    for value in telemetry(600, anomalies=0.0):
        document = json.loads(value)
        features = document["features"] | changes
        document["features"] = {name: each for name, each in features.items() if each is not None}
        yield json.dumps(document).encode()


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"latency": None}, ModelSchemaError, "no record of the window has 'latency'"),
        ({"latency": "slow"}, DataError, "600 of 600 records cannot be used .*'latency' is str, expected a number"),
        ({"latency": 3.0}, DataError, "'latency' is constant over the whole window.* knows it to vary"),
        ({"cpu": 1, "memory": 1, "latency": 1, "kind": "web"}, DataError, "every feature is constant"),
    ],
)
def test_telemetry_that_changed_its_schema_is_not_learnt(make_own, changes, error, says):
    """Features gone, of another type, or stuck: an error that names the feature, and the model in force stays."""
    config = make_own()
    champion = small_model().with_lineage({"constant": []})
    served = store.publish(config, champion.to_bytes(), "tester", "first")
    feed(config, values(**changes))

    with pytest.raises(error, match=says):
        run_once(config)

    assert store.current(config) == served
    assert len(store.versions(config)) == 1


def test_declared_features_must_be_the_champions(make_own):
    """A configuration that declares other features than the model in force reads is an error that names both."""
    config = make_own()
    store.publish(config, small_model().to_bytes(), "tester", "first")
    feed(config, telemetry(600, anomalies=0.0))
    declared = type(config)(**(config.model_dump() | {"features": [{"name": "cpu"}]}))

    with pytest.raises(ModelSchemaError, match=r"'features:' declares cpu, model .* was fitted on cpu, memory"):
        run_once(declared)
    without = type(config)(**(config.model_dump() | {"exclude": ["memory"]}))
    with pytest.raises(ModelSchemaError, match="'exclude:' leaves out 'memory'"):
        run_once(without)


def in_file(config, path):
    """The configuration as a file for the command."""
    path.write_text(json.dumps(config.model_dump(mode="json", exclude={"kafka": {"sasl_password"}})))
    return path


def test_a_terminated_training_goes_on_from_its_checkpoint(make_own, tmp_path):
    """After SIGTERM in the middle the next start goes on in the same run, with the same records, to the same version."""
    config = make_own(steps=400)
    feed(config, telemetry(900, anomalies=0.0))
    store.publish(config, small_model().to_bytes(), "tester", "first")
    whole = run_once(config, publish=False)

    job = subprocess.Popen(
        [sys.executable, "-m", "stream_detector", "retrain", "--once", "-c", in_file(config, tmp_path / "c.yaml")],
        stderr=subprocess.PIPE,
        text=True,
    )
    with job:
        for line in job.stderr:
            if line.startswith(" 60 % judge loss"):
                job.terminate()
    assert job.returncode == 130
    feed(config, telemetry(300, seed=5))  # what came meanwhile is not in the window that was begun
    steps = []
    resumed = retrain(config, Trigger("next"), "tester", lambda step, _, message: steps.append((message, step)))

    assert resumed.model.version == whole.model.version
    assert len(list(config.retrain.runs.iterdir())) == 2
    assert min(step for message, step in steps if "loss" in message) > 200
    assert store.current(config).why == "asked for"


def test_of_two_commands_at_the_same_time_one_wins(make_own, tmp_path, request):
    """Both train; one publishes, the other says that somebody was faster, ends with 4, and changes nothing."""
    config = make_own(steps=300)
    feed(config, telemetry(900, anomalies=0.0))
    first = store.publish(config, small_model().to_bytes(), "tester", "first")
    settings = [in_file(config.model_copy(update={"seed": seed}), tmp_path / f"{seed}.json") for seed in (1, 2)]
    command = (sys.executable, "-c", command_drawing(1), "retrain", "--once", "-c")

    def start(path):
        process = subprocess.Popen([*command, path], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        request.addfinalizer(process.kill)  # one that sleeps would outlive a failure
        return process

    # The first one sleeps in the midst of its training: two that publish in the same instant may both not yet know who won.
    slow = start(settings[0])
    begun = slow.stderr.readline()
    while "judge loss" not in begun:
        begun += slow.stderr.readline()
    slow.send_signal(signal.SIGSTOP)
    quick = start(settings[1])
    said = {quick.communicate(timeout=120)[1]: quick.returncode}
    slow.send_signal(signal.SIGCONT)
    begun += slow.communicate(timeout=120)[1]
    said[begun] = slow.returncode

    pointer = store.current(config)
    assert sorted(said.values()) == [0, 4], said
    assert pointer.previous == first.version
    for text, code in said.items():
        if code == 0:
            assert f"published as current: version {pointer.version}" in text
        else:
            assert pointer.version in text
            assert "somebody" in text.splitlines()[-1]
    results = [json.loads((run / "report.json").read_text())["result"] for run in config.retrain.runs.iterdir()]
    assert all(any((run / "plots").iterdir()) for run in config.retrain.runs.iterdir())
    assert sum(result == "published" for result in results) == 1


@pytest.mark.slow
def test_processes_of_torchrun_make_one_model_of_one_window(make_own, tmp_path):
    """Two processes train together: one reads, judges and publishes, once, in one run; the other only helps."""
    config = make_own()
    counts = feed(config, telemetry(900, anomalies=0.0))
    first = store.publish(config, small_model().to_bytes(), "tester", "first")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python")
    command = (
        sys.executable,
        "-c",
        command_drawing(0),
        "retrain",
        "--once",
        "-c",
        in_file(config, tmp_path / "c.json"),
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *torchrun, *command], capture_output=True, text=True, env=environment, check=False
    )

    assert done.returncode == 0, done.stderr
    pointer = store.current(config)
    assert done.stderr.count("published as current") == 1
    assert (pointer.previous, len(store.versions(config))) == (first.version, 2)
    lineage = DetectorModel.from_bytes(store.fetch(config, pointer.version)).lineage
    topic = config.topics.telemetry[0]
    assert lineage["offsets"] == {f"{topic}-{partition}": [0, counts[partition] - 1] for partition in range(3)}
    assert report(config)["version"] == pointer.version
    assert sum(m.key() == b"current" for m in everything(config, config.topics.models)) == 2


def test_only_the_newest_runs_are_kept(make_own):
    """Ended retrainings beyond `runs_kept` go, the oldest first; folders of anything else stay."""
    config = make_own(runs_kept=2)
    other = config.retrain.runs / "00000000-fit"
    other.mkdir(parents=True)
    (other / "run.yaml").write_text("{}")
    feed(config, telemetry(600, anomalies=0.0))
    kept = [run_once(config, publish=False).run.path for _ in range(3)][1:]

    assert sorted(config.retrain.runs.iterdir()) == [other, *kept]


def test_the_command_says_how_it_ended(make_own, command, tmp_path):
    """Exit code 0 with the figures on standard output; 7 and the failed check when the gate refuses; 3 without data."""
    config = make_own()
    path = tmp_path / "c.yaml"

    def run(**gate):
        strict = config.retrain.gate.model_copy(update=gate)
        stricter = config.model_copy(update={"retrain": config.retrain.model_copy(update={"gate": strict})})
        return command("retrain", "--once", "-c", in_file(stricter, path))

    code, _, err = run()
    assert code == 3
    assert "holds no record" in err
    feed(config, telemetry(900, anomalies=0.0))
    code, out, err = run(least_auc=1.0)
    assert code == 7
    assert "FAILED" in out
    assert "error: model" in err
    assert store.current(config) is None
    code, out, err = run()
    assert code == 0
    assert store.current(config).version in err
