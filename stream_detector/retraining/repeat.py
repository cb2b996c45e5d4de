"""A retraining made again: the same offsets, evidence, champion and seed, hence the same model."""

from collections.abc import Callable
from pathlib import Path

from stream_detector.config import Config
from stream_detector.errors import ReplayMismatchError
from stream_detector.model import DetectorModel
from stream_detector.registry import store
from stream_detector.retraining.job import learn
from stream_detector.retraining.run import ended
from stream_detector.retraining.standing import Standing

__all__ = ["repeat"]


def repeat(config: Config, folder: Path, progress: Callable[[int, int, str], None]) -> str:
    """Trains once more what the retraining in `folder` did; returns the version, which is the same.

    Publishes and writes nothing. Raises `ReplayMismatchError` when another model comes out,
    `ConfigError` when `folder` holds no such run, and what `retrain` raises.
    """
    run, plan, version = ended(config, folder)
    artifact = store.fetch(config, plan.champion) if plan.champion else None
    champion = DetectorModel.from_bytes(artifact, config.worker.device) if artifact else None
    seeded = config.model_copy(update={"seed": run.seed})
    model, _ = learn(seeded, plan, Standing(champion, None), progress)
    if model.version != version:
        raise ReplayMismatchError(
            f"{folder}: made model {version[:12]}, and now {model.version[:12]}: were records deleted since, by "
            "retention, is this another processor, or have the sections 'retrain' and 'threshold' changed?"
        )
    return version
