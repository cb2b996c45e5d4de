"""Commands over hostile names, reasons, topics, ids and times: nothing reaches a terminal raw."""

import json
import sys

import pytest
import yaml
from foreign_text import HOSTILE, hidden
from workload import fresh_config

from consumers.tail import main as tail
from producers.replay import main as replay_telemetry
from producers.simulator import main as simulate
from stream_detector.cli import main
from stream_detector.kafka import registry
from stream_detector.records import Alert, Contribution
from stream_detector.records.pointer import Pointer

PLAIN = HOSTILE.replace("\udcff", "")
CODES = {0, 1, 2, 3, 4, 5, 7, 8, 9, 10}


@pytest.fixture(scope="module")
def world(broker):
    """Versions published by a hostile hand for a hostile reason, and a group with a hostile name."""
    config = fresh_config(broker)
    kafka = config.kafka.model_copy(update={"group_id": f"{config.kafka.group_id}\x1b[1m\u202e"})
    config = config.model_copy(update={"kafka": kafka})
    version = registry.publish(config, b"one", who=HOSTILE, why=f"fix [/x] {HOSTILE}").version
    return config, version, registry.store(config, b"two")


@pytest.fixture
def path(world, tmp_path):
    config = world[0]
    file = tmp_path / "config.yaml"
    names = config.topics.model_dump(exclude={"partitions", "replication"}, mode="json")
    kafka = {"bootstrap_servers": config.kafka.bootstrap_servers, "group_id": config.kafka.group_id}
    features = [{"name": PLAIN}, {"name": "kind\x1b[31m", "kind": "categorical"}]
    sections = {"kafka": kafka, "topics": names, "features": features}
    file.write_text(yaml.safe_dump(sections, allow_unicode=False))
    return file


@pytest.fixture
def said(monkeypatch, capfd):
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


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["validate"], 0),
        (["status"], 0),
        (["status", "--json"], 0),
        (["models", "ls"], 0),
        (["models", "promote", "OTHER", "--why", "fix [/x]" + HOSTILE], 0),
        (["models", "rollback", "--why", HOSTILE], 0),
        (["models", "shadow", "OTHER", "--why", HOSTILE], 0),
        (["models", "compare"], 0),
        (["models", "compare", "--json"], 0),
        (["models", "promote", HOSTILE], 4),
        (["models", "export", "OTHER", "no/such/" + HOSTILE], 10),
        (["backtest", "--from", HOSTILE], 2),
        (["feedback", "ALERT", "--verdict", "anomaly", "--note", HOSTILE], 9),
        (["feedback", "ALERT", "--verdict", "anomaly", "--note", HOSTILE, "--json"], 9),
        (["feedback", HOSTILE, "--verdict", "anomaly"], None),
        (["feedback", "--summary"], 0),
        (["feedback", "--summary", "--json"], 0),
        (["topics", "create"], 0),
        ([HOSTILE], 2),
        (["status", "--" + HOSTILE], 2),
        (["explain", "--partition", HOSTILE, "--offset", 1], 2),
        (["feedback", "ALERT", "--verdict", HOSTILE], 2),
        (["models", HOSTILE], 2),
    ],
)  # fmt: skip
def test_a_command_says_nothing_raw(world, path, said, args, code, tmp_path, monkeypatch):
    """Whatever is hostile in the stream, the model, its pointer or the command line: escaped, and no traceback."""
    monkeypatch.chdir(tmp_path)
    config, _, other = world
    chosen = [{"OTHER": other, "ALERT": f"{config.topics.telemetry[0]}-0-1"}.get(arg, arg) for arg in args]
    said(*chosen, "-c", path, code=code)


def test_pointers_of_other_writers_say_nothing_raw(world, path, said, produce):
    """Reason, person, time and id of a pointer that another program wrote are escaped."""
    config, version, other = world
    pointer = Pointer(version, other, HOSTILE, HOSTILE + "2026", f"[bold]{HOSTILE}", HOSTILE, other, version)
    produce(config, config.topics.models, [pointer.to_json()] * 2, keys=[b"current", b"shadow"])
    try:
        assert "[bold]" in said("models", "ls", "-c", path, code=0)
        assert "[bold]" in said("status", "-c", path, code=0)
    finally:
        registry.promote(config, version, "test", "back")


def test_feedback_control_and_shadow_of_other_writers_say_nothing_raw(world, path, said, produce):
    """What else is read back from topics that others may write."""
    config, _, _ = world
    ugly = json.dumps({"alert": HOSTILE, "verdict": HOSTILE, "note": HOSTILE, "who": HOSTILE, "when": HOSTILE}).encode()
    for topic in (config.topics.feedback, config.topics.control, config.topics.shadow, config.topics.alerts):
        produce(config, topic, [ugly, b"\x1b[2J", b"[" * 30_000], keys=[HOSTILE.encode("utf-8", "replace")] * 3)
    for args in (["feedback", "--summary"], ["models", "compare"], ["status"], ["topics", "create"]):
        said(*args, "-c", path)


def test_the_alerts_view_says_nothing_raw(world, path, capfd, produce):
    """Blocks for people and JSON for machines: escaped alike, and the JSON means what the alert says."""
    config, version, _ = world
    shares = (Contribution(PLAIN, PLAIN, PLAIN, 0.9, PLAIN), Contribution("a", 1.0, 2.0, 0.1, "high"))
    alert = Alert(
        *(PLAIN, 0, 7, None, PLAIN, PLAIN, PLAIN, PLAIN, version, 6.0, 3.0, PLAIN, 6.0, 3.0, PLAIN),
        contributions=shares,
    )
    produce(config, config.topics.alerts, [alert.to_json(), PLAIN.encode(), b"[" * 30_000])
    for options in ([], ["--json"]):
        code = tail(["-c", str(path), "--from-beginning", *options])
        text = checked(capfd, options, code, 0)
    (line,) = (json.loads(line) for line in text.splitlines() if line.startswith("{"))
    assert (line["entity"], PLAIN in line["features"][0].values()) == (PLAIN, True)
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


@pytest.mark.parametrize("name", ["e\x1b[2J\u202e", "l\nforged: x", "s\udcff", "[b] [red]x"])
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
