"""The run directory of a retraining keeps its plan, so that an interrupted retraining goes on.

Beside what every training keeps there are `plan.json` (the offsets, the alerts and the feedback, fixed at the
start, so that a second reading gives the same records) and, once it has ended, `report.json`,
`report.md` and `model.safetensors`. Whoever works on a run holds a lock on `plan.json`, which ends
with the process.
"""

import fcntl
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from stream_detector.config import Config
from stream_detector.errors import ConfigError
from stream_detector.gan.settings import ModelConfig
from stream_detector.kafka.recent import Reach
from stream_detector.retraining.normal import AlertLabels
from stream_detector.tracking.run_directory import RunDirectory

__all__ = ["Plan", "begun", "ended", "last_ended", "tidy", "unfinished"]

PLAN, REPORT = "plan", "report"
GOES_ON = 24 * 3600  # seconds after which an interrupted run is left as it is: its window is old


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a retraining: its reason, the version to replace, the offsets to read and what is known of them."""

    why: str
    champion: str
    reach: Reach
    labels: AlertLabels

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "why": self.why,
            "champion": self.champion,
            "reach": [[*place, *span] for place, span in sorted(self.reach.items())],
            "evidence": {
                "flagged": sorted(self.labels.flagged),
                "anomalous": list(self.labels.anomalous),
                "cleared": sorted(self.labels.cleared),
            },
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; raises KeyError, TypeError or ValueError on other values."""
        reach = {(str(topic), int(part)): (int(start), int(end)) for topic, part, start, end in kept["reach"]}
        flagged, anomalous, cleared = (map(str, kept["evidence"][name]) for name in ("flagged", "anomalous", "cleared"))
        labels = AlertLabels(frozenset(flagged), tuple(anomalous), frozenset(cleared))
        return cls(str(kept["why"]), str(kept["champion"]), reach, labels)


@contextmanager
def begun(config: Config, plan: Plan) -> Iterator[RunDirectory]:
    """Makes a new run in `retrain.runs`, locked until the block is left; raises `ConfigError` when it cannot be made."""
    run = RunDirectory.create(config.retrain.runs, _configuration(config), config.seed)
    run.save_json(PLAN, plan.to_dict())
    with _held(run.path) as held:
        assert held, "nobody else knows a folder just made"
        yield run


@contextmanager
def unfinished(config: Config, champion: str) -> Iterator[tuple[RunDirectory, Plan] | None]:
    """Finds the newest run that was interrupted and can go on, locked until the block is left; None without one.

    A run can go on for a day, while the same version serves under the same configuration.
    """
    with ExitStack() as stack:
        for path in sorted(config.retrain.runs.glob("*/"), reverse=True):
            plan = _plan(path, config)
            if plan is not None and plan.champion == champion and stack.enter_context(_held(path)):
                yield RunDirectory.open(path), plan
                return
        yield None


def ended(config: Config, folder: Path) -> tuple[RunDirectory, Plan, str]:
    """Reads a retraining that made a model: its run, plan and the model's version; raises `ConfigError` when it is none,
    or was made with other settings of the model.
    """
    run = RunDirectory.open(folder)
    kept, report = run.load_json(PLAN), run.load_json(REPORT)
    try:
        plan, version = Plan.from_dict(kept or {}), str((report or {})["version"] or "")
    except (KeyError, TypeError, ValueError):
        version = ""
    if not version:
        raise ConfigError(f"{folder}: is not the run of a retraining that made a model")
    if run.description["configuration"] != _configuration(config):
        raise ConfigError(f"{folder}: was made with other settings of 'model' or 'inversion'; give the same")
    return run, plan, version


def last_ended(config: Config) -> datetime | None:
    """The time when the newest retraining kept in `retrain.runs` ended; None without one."""
    ends = [(path / f"{REPORT}.json").stat().st_mtime for path in config.retrain.runs.glob("*/") if _is_over(path)]
    return datetime.fromtimestamp(max(ends), UTC) if ends else None


def tidy(config: Config) -> None:
    """Removes the oldest run directories of ended retrainings; those of other fits are left alone."""
    over = [path for path in sorted(config.retrain.runs.glob("*/")) if _is_over(path)]
    for path in over[: -config.retrain.runs_kept]:
        shutil.rmtree(path, ignore_errors=True)


def _is_over(path: Path) -> bool:
    return all((path / f"{name}.json").is_file() for name in (PLAN, REPORT))


def _plan(path: Path, config: Config) -> Plan | None:
    """The plan of an interrupted run; None for any other folder."""
    kept = path / f"{PLAN}.json"
    if not kept.is_file() or (path / f"{REPORT}.json").exists() or time.time() - kept.stat().st_mtime > GOES_ON:
        return None
    try:
        run = RunDirectory.open(path)
        known = run.description
        if known["configuration"] != _configuration(config) or known["seed"] != config.seed:
            return None
        return Plan.from_dict(run.load_json(PLAN) or {})
    except (ConfigError, KeyError, TypeError, ValueError):
        return None


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Tries to lock the run until the block is left or the process ends; yields whether it could."""
    with (path / f"{PLAN}.json").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _configuration(config: Config) -> dict[str, Any]:
    return ModelConfig(model=config.model, inversion=config.inversion).model_dump(mode="json")
