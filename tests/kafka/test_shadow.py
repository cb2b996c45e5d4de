"""A candidate in shadow judges what the model in force judges, and changes nothing of it."""

import json

import pytest
import yaml
from structlog.testing import capture_logs
from workload import (
    THRESHOLD,
    Running,
    alerts,
    committed,
    ends,
    feed,
    fresh_config,
    published,
    slotted,
    small_model,
    telemetry,
    until,
    verdicts,
)

from stream_detector.records.comparison import EXAMPLES
from stream_detector.registry import store
from stream_detector.worker.shadow import compared


@pytest.fixture
def config(broker):
    return fresh_config(broker, threshold=THRESHOLD, worker={"batch_records": 256})


def in_shadow(logs, version):
    return lambda: any(entry["event"] == "shadow" and entry["version"] == version for entry in logs)


def test_the_comparison_is_what_each_model_alone_would_say(config, command, tmp_path):
    """Counts of both models over a restart are those of two undisturbed runs; the alerts are the champion's."""
    models = small_model(0), small_model(1)
    first, second = published(config, *models)
    store.shadow(config, second, "test", "look")
    for seed in (1, 2):
        with capture_logs() as logs, Running(slotted(config, f"slot-{seed}"), None) as running:
            until(in_shadow(logs, second), "the candidate is in shadow")
            feed(config, telemetry(4_000, seed=seed, anomalies=0.03))
            until(lambda: committed(config) == ends(config), "all is committed")
        assert running.summary.records == 4_000
    champion, candidate = (verdicts(config, model) for model in models)
    found = compared(config, second, first)

    assert alerts(config) == champion
    assert (found.records, found.champion_alerts, found.candidate_alerts) == (8_000, len(champion), len(candidate))
    assert found.both == len(champion.keys() & candidate.keys())
    added = {f"{config.topics.telemetry[0]}-{partition}-{offset}" for partition, offset in candidate.keys() - champion}
    assert set(found.added) <= added
    assert len(found.added) == min(len(added), EXAMPLES)

    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", include={"kafka", "topics"}, exclude_none=True)))
    lost = len(champion.keys() - candidate)
    code, out, _ = command("models", "compare", "-c", path)
    assert (code, f"added {len(added):,}, lost {lost:,}, agreement {found.agreement:.1%}" in out) == (0, True), out
    assert "8,000 records judged by both" in out
    assert f"{len(candidate) / 8_000:.4%}" in out
    assert f"{len(champion) / 8_000:.4%}" in out
    told = json.loads(command("models", "compare", "--json", "-c", path)[1])
    assert (told["candidate_alerts"], told["champion_alerts"], told["both"]) == (
        len(candidate),
        len(champion),
        len(champion.keys() & candidate.keys()),
    )
    assert lost > 0
    assert len(added) > 0


def test_a_shadow_ends_when_told_and_when_it_takes_over(config):
    """Without the pointer nothing is compared any more, and a candidate that serves is not compared with itself."""
    first, second = published(config, small_model(0), small_model(1))
    with capture_logs() as logs, Running(config, None) as running:
        store.shadow(config, second, "test", "look")
        until(in_shadow(logs, second), "the candidate is in shadow")
        store.shadow(config, None, "test", "enough")
        until(in_shadow(logs, None), "the shadow ends")
        feed(config, telemetry(300))
        until(lambda: committed(config) == ends(config), "all is committed")
        logs.clear()
        store.shadow(config, second, "test", "again")
        until(in_shadow(logs, second), "the candidate is in shadow again")
        store.promote(config, second, "test", "better")
        until(in_shadow(logs, None), "it serves")
        assert running.summary is None
    assert compared(config, second, first).records == 0


def test_a_candidate_that_fails_harms_nobody(config, monkeypatch):
    """A candidate that cannot judge is dropped with its reason; every record is still judged by the one in force."""
    _, second = published(config, small_model(0), small_model(1))
    store.shadow(config, second, "test", "look")
    feed(config, telemetry(3_000, anomalies=0.03))
    for where in ("model_swap", "shadow"):
        monkeypatch.setattr(f"stream_detector.worker.{where}.catch_up", broken)
    with capture_logs() as logs, Running(config, None) as running:
        until(in_shadow(logs, None), "the shadow ends")
        until(lambda: committed(config) == ends(config), "all is committed")
    # Before there is a window it fails at its first batch, later when it is made ready.
    assert any("shadow failed" in entry["event"] or "refused" in entry["event"] for entry in logs)
    assert running.summary.records == 3_000
    assert alerts(config) == verdicts(config, small_model(0))


def broken(*_):
    raise ZeroDivisionError
