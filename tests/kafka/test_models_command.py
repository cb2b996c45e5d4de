"""`models` as an operator meets it: choosing, going back, clearing away, and who did it why."""

import hashlib
import json
import sys

import pytest
import yaml
from workload import alter, feed, fresh_config, published, small_model

from stream_detector.cli import main
from stream_detector.kafka.clients import plain_producer
from stream_detector.registry import model_pointer, store


@pytest.fixture
def config(broker):
    return fresh_config(broker)


@pytest.fixture
def command(config, monkeypatch, capsys, tmp_path):
    """Runs `stream-detector models ARGS`; returns exit code, standard output and standard error."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", include={"kafka", "topics"}, exclude_none=True)))

    def run(*args, noun=("models",)):
        monkeypatch.setattr(sys, "argv", ["stream-detector", *noun, *map(str, args), "-c", str(path)])
        monkeypatch.setenv("COLUMNS", "240")
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_a_version_is_promoted_rolled_back_and_pruned(config, command, tmp_path):
    """The pointer moves by one command each way, names who and why, and prune takes what nothing names."""
    first, second = small_model(), small_model().with_lineage({"copy": 2})
    for number, model in enumerate((first, second)):
        model.save(tmp_path / f"{number}.safetensors")
    assert command("import", tmp_path / "0.safetensors")[0] == 0
    assert second.version in command("import", tmp_path / "1.safetensors", "--candidate")[2]
    assert store.current(config).version == first.version

    code, _, err = command("promote", second.version[:12], "--expected", second.version[:12])
    assert (code, first.version in err, second.version in err) == (4, True, True)
    assert command("promote", second.version[:12], "--why", "[b]better[/b]")[0] == 0
    _, listed, _ = command("ls")
    assert [line for line in listed.splitlines() if "current" in line and "[b]better[/b]" in line]

    assert command("rollback", "--why", "worse")[0] == 0
    served = store.current(config)
    assert (served.version, served.why, bool(served.approved_by)) == (first.version, "worse", True)
    spare = store.store(config, small_model().with_lineage({"copy": 3}).to_bytes())
    assert spare[:16] in command("prune", "--keep", 0)[2]
    assert {info.version for info in store.versions(config)} == {first.version, second.version}


def test_a_candidate_goes_into_shadow_and_is_compared(config, command):
    """`shadow` names a candidate, `compare` shows both models, `--off` ends it; none of it moves what serves."""
    serves, candidate = published(config, small_model(), small_model().with_lineage({"copy": 2}))
    assert command("compare")[0] == 4
    assert command("shadow")[0] == 2
    assert candidate in command("shadow", candidate[:12])[2]
    assert "shadow" in command("ls")[1]
    code, shown, _ = command("compare")
    assert code == 0
    assert candidate[:16] in shown
    assert serves[:16] in shown
    assert "agreement 100.0%" in shown
    assert command("shadow", "--off")[0] == 0
    assert command("compare")[0] == 4
    assert store.current(config).version == serves


def test_without_a_way_back_it_says_so(command):
    """A rollback with nothing before it is one line and exit code 4."""
    code, _, err = command("rollback")
    assert code == 4
    assert "no model before the one that serves" in err


def test_no_way_leads_to_a_model_of_other_records(config, command):
    """`promote`, `rollback` and `shadow` hold a model against the topic alike, and `status` says what a worker would."""
    fitting, again = published(config, small_model(), small_model().with_lineage({"copy": 2}))
    store.promote(config, again, "test", "second")
    assert command("status", noun=())[1].splitlines()[1].startswith("┏")
    feed(config, [json.dumps({"features": {"pressure": 1.0, "flow": 2.0}}).encode()] * 60)
    before = store.current(config)
    for args in (("promote", fitting), ("rollback",), ("shadow", fitting)):
        code, _, err = command(*args)
        assert (code, "'flow', 'pressure'" in err, len(err.splitlines())) == (4, True, 1), args
    assert store.current(config) == before
    assert model_pointer.shadow(config) is None
    _, told, _ = command("status", noun=())
    (line,) = (line for line in told.splitlines() if line.startswith("trouble: "))
    assert "'flow', 'pressure'" in line
    assert "'flow', 'pressure'" in json.loads(command("status", "--json", noun=())[1])["trouble"]


def test_any_time_of_a_version_can_be_listed(config, command):
    """Whoever wrote a version may have given its record any time; the list shows it, and goes on."""
    alter(config, config.topics.models, {"message.timestamp.after.max.ms": 2**63 - 1})
    producer = plain_producer(config.kafka)
    times = (1, 10**15, 2**62, 1_700_000_000_000)
    for number, time in enumerate(times):
        key = b"version/" + hashlib.sha256(bytes([number])).hexdigest().encode()
        producer.produce(config.topics.models, bytes([number]), key, 0, timestamp=time)
    assert producer.flush(30) == 0
    code, listed, _ = command("ls")
    assert code == 0
    for number, told in enumerate(("1970-01-01", f"{10**15} ms", f"{2**62} ms", "2023-11-14")):
        (line,) = (line for line in listed.splitlines() if hashlib.sha256(bytes([number])).hexdigest()[:16] in line)
        assert told in line
