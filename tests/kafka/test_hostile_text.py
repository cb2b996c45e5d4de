"""Commands over hostile names, features, categories, reasons, topics, ids and times: nothing reaches a terminal raw."""

import csv
import json
import random
import sys

import numpy as np
import pytest
import yaml
from foreign_text import HOSTILE, hidden
from workload import MODEL_CONFIG, THRESHOLD, Running, feed, fresh_config

import stream_detector
from consumers.tail import main as tail
from producers.replay import main as replay_telemetry
from producers.simulator import main as simulate
from stream_detector.audit import alerts_topic
from stream_detector.cli import main
from stream_detector.records.pointer import Pointer
from stream_detector.registry import store

PLAIN = HOSTILE.replace("\udcff", "")
NAMES = [f"{PLAIN}{at}" for at in range(3)]
KIND = "kind\x1b[31m"
COUNT = 300  # records with an ordinary look; the one behind them is far off
CODES = {0, 1, 2, 3, 4, 5, 7, 8, 9, 10}


def rows(count, seed):
    dice = random.Random(seed)
    for _ in range(count):
        load = dice.gauss(0, 1)
        yield {name: 10 * load + dice.gauss(0, 1) for name in NAMES} | {KIND: dice.choice(["a\x9b", "b\u202e"])}


def telemetry(seed):
    wild = {name: 1e4 * (at + 1) for at, name in enumerate(NAMES)} | {KIND: PLAIN}
    for at, row in enumerate([*rows(COUNT, seed), wild]):
        yield json.dumps({"id": f"{at}{PLAIN}", "entity": PLAIN, "time": PLAIN, "features": row}).encode()


@pytest.fixture(scope="module")
def model():
    """A model whose features and categories have hostile names."""
    features = [*map(stream_detector.Feature, NAMES), stream_detector.Feature(KIND, stream_detector.Kind.CATEGORICAL)]
    config = stream_detector.ModelConfig(**MODEL_CONFIG)
    return stream_detector.fit(list(rows(600, 1)), stream_detector.FeatureSchema(tuple(features)), config, device="cpu")


@pytest.fixture(scope="module")
def world(broker, model):
    """A worker has judged hostile records under a model chosen by a hostile hand for a hostile reason."""
    config = fresh_config(broker, threshold=THRESHOLD)
    version = store.publish(config, model.to_bytes(), who=HOSTILE, why=f"fix [/x] {HOSTILE}").version
    other = store.store(config, model.with_lineage({"\x1b[2J": PLAIN}).to_bytes())
    feed(config, [*telemetry(2), b"\x1b[2J{", b'{"features": {"\xc2\x9b": []}}'], partitions=1)
    with Running(config, None, until_end=True) as running:
        running.join()
    return config, version, other


@pytest.fixture
def path(world, tmp_path):
    config = world[0]
    file = tmp_path / "config.yaml"
    names = config.topics.model_dump(exclude={"partitions", "replication"}, mode="json")
    kafka = {"bootstrap_servers": config.kafka.bootstrap_servers, "group_id": config.kafka.group_id}
    features = [*({"name": name} for name in NAMES), {"name": KIND, "kind": "categorical"}]
    sections = {"kafka": kafka, "topics": names, "features": features, "threshold": THRESHOLD, **MODEL_CONFIG}
    file.write_text(yaml.safe_dump(sections, allow_unicode=False))
    return file


@pytest.fixture
def said(monkeypatch, capfd, commands_built_once):
    """Runs `stream-detector ARGS`; what it printed, after it was found to hold nothing raw and no traceback."""

    def run(*args, code=None):
        monkeypatch.setattr(sys, "argv", ["stream-detector", *map(str, args)])
        monkeypatch.setenv("COLUMNS", "400")
        with pytest.raises(SystemExit) as ended:
            main()
        return checked(capfd, args, ended.value.code or 0, code)

    return run


def checked(capfd, args, ended, code=None):
    out, err = capfd.readouterr()
    for text in (out, err):
        assert hidden(text.replace("\n", "")) == [], (args, text)
        assert "Traceback" not in text
    assert not [line for line in (out + err).splitlines() if line.startswith("forged")]
    assert ended in (CODES if code is None else {code}), (args, out, err)
    return out + err


def test_there_is_an_alert_and_there_are_dead_letters(world):
    """The far-off record was flagged, so that what follows is about a hostile alert, too."""
    assert COUNT in {alert.offset for alert in alerts_topic.everything(world[0])}


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["validate"], 0),
        (["status"], 0),
        (["status", "--json"], 0),
        (["models", "ls"], 0),
        (["models", "show"], 0),
        (["models", "show", "OTHER"], 0),
        (["models", "promote", "OTHER", "--why", "fix [/x]" + HOSTILE], 0),
        (["models", "rollback", "--why", HOSTILE], 0),
        (["models", "shadow", "OTHER", "--why", HOSTILE], 0),
        (["models", "compare"], 0),
        (["models", "compare", "--json"], 0),
        (["models", "promote", HOSTILE], 4),
        (["models", "export", "OTHER", "no/such/" + HOSTILE], 10),
        (["explain", "--partition", 0, "--offset", COUNT], 0),
        (["explain", "--partition", 0, "--offset", COUNT, "--json"], 0),
        (["explain", "--partition", 0, "--offset", COUNT + 1], 0),
        (["explain", "--partition", 0, "--offset", COUNT + 2, "--json"], 0),
        (["explain", "--partition", 0, "--offset", 1, "--topic", HOSTILE], None),
        (["explain", "--partition", 0, "--offset", 1, "--model", HOSTILE], 4),
        (["explain", "--partition", HOSTILE, "--offset", 1], 2),
        (["replay", "ALERT"], 0),
        (["replay", "ALERT", "--json"], 0),
        (["replay", HOSTILE], None),
        (["replay", f"{HOSTILE}-0-1"], None),
        (["backtest", "--from", "2020-01-01T00:00:00Z"], 0),
        (["backtest", "--from", "2020-01-01T00:00:00Z", "--json"], 0),
        (["backtest", "--from", HOSTILE], 2),
        (["feedback", "ALERT", "--verdict", "anomaly", "--note", HOSTILE], 0),
        (["feedback", "ALERT", "--verdict", "anomaly", "--note", HOSTILE, "--json"], 0),
        (["feedback", "NONE", "--verdict", "anomaly", "--note", HOSTILE], 9),
        (["feedback", HOSTILE, "--verdict", "anomaly"], None),
        (["feedback", "ALERT", "--verdict", HOSTILE], 2),
        (["feedback", "--summary"], 0),
        (["feedback", "--summary", "--json"], 0),
        (["topics", "create"], 0),
        (["run", "--until-end"], 0),
        (["fit", "--from-topic", "--records", 200, "--out", "fitted"], 0),
        (["fit", "--from-topic", "--records", 200, "--out", "no/such/" + HOSTILE], 10),
        (["retrain", "--once", "--dry-run", "--why", HOSTILE], None),
        (["retrain", "--repeat", HOSTILE], None),
        ([HOSTILE], 2),
        (["status", "--" + HOSTILE], 2),
        (["models", HOSTILE], 2),
    ],
)  # fmt: skip
def test_a_command_says_nothing_raw(world, path, said, args, code, tmp_path, monkeypatch):
    """Whatever is hostile in the stream, the model, its pointer or the command line: escaped, and no traceback."""
    monkeypatch.chdir(tmp_path)
    config, _, other = world
    place = f"{config.topics.telemetry[0]}-0-"
    named = {"OTHER": other, "ALERT": f"{place}{COUNT}", "NONE": f"{place}999"}
    said(*(named.get(arg, arg) for arg in args), "-c", path, code=code)


def test_pointers_of_other_writers_say_nothing_raw(world, path, said, produce):
    """Reason, person, time and id of a pointer that another program wrote are escaped."""
    config, version, other = world
    pointer = Pointer(version, other, HOSTILE, HOSTILE + "2026", f"[bold]{HOSTILE}", HOSTILE, other, version)
    produce(config, config.topics.models, [pointer.to_json()] * 2, keys=[b"current", b"shadow"])
    try:
        assert "[bold]" in said("models", "ls", "-c", path, code=0)
        assert "[bold]" in said("status", "-c", path, code=0)
    finally:
        store.promote(config, version, "test", "back")


def test_feedback_control_and_shadow_of_other_writers_say_nothing_raw(world, path, said, produce):
    """What else is read back from topics that others may write."""
    config, _, _ = world
    ugly = json.dumps({"alert": HOSTILE, "verdict": HOSTILE, "note": HOSTILE, "who": HOSTILE, "when": HOSTILE}).encode()
    for topic in (config.topics.feedback, config.topics.control, config.topics.shadow, config.topics.alerts):
        produce(config, topic, [ugly, b"\x1b[2J", b"[" * 30_000], keys=[HOSTILE.encode("utf-8", "replace")] * 3)
    backtest = ["backtest", "--from", "2020-01-01T00:00:00Z"]
    for args in (["feedback", "--summary"], ["models", "compare"], ["status"], ["topics", "create"], backtest):
        said(*args, "-c", path)


def test_a_worker_over_hostile_records_logs_nothing_raw(world, path, said):
    """A group that begins anew judges all of it once more; its log lines and its last one are escaped."""
    config = world[0]
    sections = yaml.safe_load(path.read_text())
    sections["kafka"]["group_id"] = f"{config.kafka.group_id}-again"
    path.write_text(yaml.safe_dump(sections))
    path.write_text(yaml.safe_dump(sections | {"log": {"format": "json", "level": "debug"}}))
    said("run", "--until-end", "-c", path, code=0)


def test_the_alerts_view_says_nothing_raw(world, path, capfd):
    """Blocks for people and JSON for machines: escaped alike, and the JSON means what the alert says."""
    for options in ([], ["--json"]):
        code = tail(["-c", str(path), "--from-beginning", *options])
        text = checked(capfd, options, code, 0)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    told = next(line for line in lines if line.get("source", {}).get("offset") == COUNT)
    assert told["entity"] == PLAIN
    assert {*NAMES, KIND} == {feature["feature"] for feature in told["features"]}
    for args in (["--topic", HOSTILE], ["-c", HOSTILE], ["--bootstrap-servers", HOSTILE]):
        given = args if args[0] == "-c" else ["-c", str(path), *args]
        checked(capfd, args, tail([*given, "--from-beginning"]))


@pytest.mark.parametrize("program", [simulate, replay_telemetry])
def test_a_producer_says_nothing_raw(program, path, capfd, tmp_path):
    """Names of topics and files on the command line of a program that feeds."""
    monkey = tmp_path / "in.csv"
    monkey.write_text("a,b\n1,2\n")
    for args in (
        ["--topic", HOSTILE],
        ["--out", f"no/such/{HOSTILE}"],
        ["-c", HOSTILE],
        ["--bootstrap-servers", HOSTILE],
    ):
        start = [str(monkey)] if program is replay_telemetry else ["--records", "5"]
        rest = [] if args[0] == "-c" else ["-c", str(path)]
        try:
            code = program([*start, *rest, *args])
        except SystemExit as ended:
            code = ended.code
        checked(capfd, args, code)


FOLDERS = ["e\x1b[2J\u202e", "l\nforged: x", "s\udcff", "[b] [red]x"]


@pytest.mark.parametrize("name", FOLDERS)
def test_files_with_hostile_names_are_named_escaped(said, tmp_path, monkeypatch, name):
    """Data, models, runs and configurations that are missing, or are something else."""
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / name).write_text(json.dumps(name))
    said("score", f"{name}.no", f"{name}.csv", "--out", "x.csv", code=4)
    said("score", name, f"{name}.csv", "--out", "x.csv", code=4)
    said("fit", f"{name}.csv", "--out", "m", code=3)
    said("fit", f"{name}.odd", "--out", "m", code=3)
    said("report", name, code=2)
    said("validate", "-c", f"{name}.no.yaml", code=2)
    said("validate", "-c", name, code=2)
    bad = f"{json.dumps(name)}: 1\ntopics: {{{json.dumps(name)}: 1, alerts: {json.dumps(name)}}}\n"
    (folder / "bad.yaml").write_text(bad)
    said("validate", "-c", "bad.yaml", code=2)
    said("models", "import", name, code=4)


@pytest.mark.parametrize("name", FOLDERS)
def test_fits_scores_and_reports_under_hostile_names_succeed_escaped(said, tmp_path, monkeypatch, request, name):
    """A table with hostile columns, in a hostile folder, to a hostile model: every file is where it was asked for."""
    if name != FOLDERS[0]:  # the pictures show the columns, which are always the same
        request.getfixturevalue("no_pictures")
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    values = np.random.default_rng(0).normal(size=(200, 3))
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a\x1b[2J", "b\u202e", "[/x]"])
        writer.writerows(values.tolist())
    (folder / "quick.yaml").write_text(yaml.safe_dump(MODEL_CONFIG))
    made, runs = f"{name}.model", f"{name}.runs"
    if "\udcff" in name:
        said("fit", f"{name}.csv", "--out", made, "--run-dir", runs, "-c", "quick.yaml", code=2)
        runs = "runs"
    said("fit", f"{name}.csv", "--out", made, "--run-dir", runs, "-c", "quick.yaml", code=0)
    said("score", made, f"{name}.csv", "--out", f"{name}.out.csv", code=0)
    (run,) = (folder / runs).iterdir()
    said("report", run, code=0)
    assert (folder / made).stat().st_size
    assert len((folder / f"{name}.out.csv").read_text().splitlines()) == 201
    said("score", made, f"{name}.csv", "--out", f"no/such/{name}.csv", code=10)
    said("score", made, f"{name}.csv", "--out", f"{name}.odd")
    said("report", run, "--out", f"no/{name}", code=10)
    said("fit", f"{name}.csv", "--out", f"no/such/{name}", "-c", "quick.yaml", code=10)
    said("fit", f"{name}.csv", "--out", "m", "--resume", name, "-c", "quick.yaml")
