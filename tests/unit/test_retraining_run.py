"""A retraining's run directory: who may go on with it, and who may not."""

import json
import os
import time

import pytest

from stream_detector.config import Config
from stream_detector.errors import ConfigError
from stream_detector.retraining.normal import AlertLabels
from stream_detector.retraining.run import Plan, begun, ended, tidy, unfinished

CHAMPION = "f" * 64
EVIDENCE = AlertLabels(frozenset({"t-0-3", "t-0-1"}), ("t-1-9", "t-0-2"), frozenset({"t-0-4"}))
PLAN = Plan("a test", CHAMPION, {("t", 0): (5, 90), ("t", 1): (0, 7)}, EVIDENCE)


@pytest.fixture
def config(tmp_path):
    return Config(retrain={"runs": tmp_path / "runs"})


def interrupted(config):
    """A run that was begun and not ended."""
    with begun(config, PLAN) as run:
        return run


def found(config, champion=CHAMPION):
    """The path and plan of the run to go on with."""
    with unfinished(config, champion) as going_on:
        return (going_on[0].path, going_on[1]) if going_on else None


def test_a_plan_comes_back_as_it_was_written(config):
    """Offsets and evidence are those of the start, in their order."""
    assert found(config) is None
    run = interrupted(config)

    assert found(config) == (run.path, PLAN)


def test_nobody_goes_on_with_a_run_that_is_being_worked_on(config):
    """It is free again only when its job has ended or died."""
    with begun(config, PLAN):
        assert found(config) is None
    with unfinished(config, CHAMPION) as held:
        assert held
        assert found(config) is None
    assert found(config)


@pytest.mark.parametrize("why", ["another champion", "ended", "too old", "other settings", "another seed", "damaged"])
def test_what_does_not_belong_to_this_retraining_is_left_alone(config, why):
    """Another model serves, the run has ended or is old, or it was made with another configuration."""
    run = interrupted(config)
    champion = CHAMPION
    if why == "another champion":
        champion = "0" * 64
    elif why == "ended":
        run.save_json("report", {})
    elif why == "too old":
        yesterday = time.time() - 25 * 3600
        os.utime(run.path / "plan.json", (yesterday, yesterday))
    elif why == "other settings":
        config = Config(retrain=config.retrain.model_dump(), model={"steps": 77})
    elif why == "another seed":
        config = config.model_copy(update={"seed": 1})
    else:
        (run.path / "plan.json").write_text(json.dumps({"why": "x"}))

    assert found(config, champion) is None


def test_only_ended_retrainings_are_tidied_away(config):
    """The newest stay, and so does what has not ended."""
    config = config.model_copy(update={"retrain": config.retrain.model_copy(update={"runs_kept": 1})})
    runs = [interrupted(config) for _ in range(3)]
    for run in runs[:2]:
        run.save_json("report", {})
    tidy(config)

    assert [run.path.exists() for run in runs] == [False, True, True]


@pytest.mark.parametrize("report", [None, {"version": None}, {"result": "x"}])
def test_a_run_without_a_model_cannot_be_repeated(config, report):
    """It must have ended with a model."""
    run = interrupted(config)
    if report is not None:
        run.save_json("report", report)
    with pytest.raises(ConfigError, match="is not the run of a retraining that made a model"):
        ended(config, run.path)

    run.save_json("report", {"version": CHAMPION})
    assert ended(config, run.path)[1:] == (PLAN, CHAMPION)
