"""`python -m benchmarks.quality.ablation`: every part of the detector off, one at a time."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from benchmarks.quality.command import benchmark
from benchmarks.quality.data import Matrix
from benchmarks.quality.method import Method, Score
from benchmarks.quality.ours import OURS, detector
from benchmarks.quality.search import SEARCH
from stream_detector import ModelConfig

__all__ = ["ABLATION", "VARIATIONS", "varied"]

VARIATIONS: Mapping[str, Mapping[str, Any]] = {
    "inversion only": {"model.mode": "inversion"},
    "reconstruction only": {"model.mode": "reconstruction"},
    "discriminator only": {"model.mode": "discriminator"},
    "bounded view only": {"model.views": ["bounded"]},
    "soft view only": {"model.views": ["soft"]},
    "two members": {"model.members": 2},
    "one discriminator": {"model.discriminators": 1},
    "two discriminators": {"model.discriminators": 2},
    "tamed and soft views": {"model.views": ["tamed", "soft"]},
    "memory of 512": {"model.memory": 512},
    "memory of 4096": {"model.memory": 4096},
    "not adversarial": {"model.adversarial": 0},
    "no prior": {"inversion.prior": 0},
    "a third of the prior": {"inversion.prior": 0.1},
    "three times the prior": {"inversion.prior": 1.0},
    "no weight averaging": {"model.averaging": 0},
    "latent of 4": {"model.latent": 4},
    "latent of 64": {"model.latent": 64},
    "shallow networks": {"model.architecture": "shallow"},
    "residual networks": {"model.architecture": "residual"},
    "deep networks": {"model.architecture": "deep"},
    "funnel networks": {"model.architecture": "funnel"},
    "a fifth of the training": {"model.steps": 800},
    "half of the training": {"model.steps": 2_000},
    "twice the training": {"model.steps": 8_000},
    "no search": {"inversion.steps": 0},
    "search for all records": {"inversion.screen": 0},
    "8 search steps": {"inversion.steps": 8},
}


def varied(changes: Mapping[str, Any]) -> ModelConfig:
    """The default configuration with some `section.key` changed; an unknown one is pydantic's error."""
    values = ModelConfig().model_dump(mode="json")
    for path, value in changes.items():
        section, key = path.split(".")
        values[section][key] = value
    return ModelConfig.model_validate(values)


def _last_checkpoint() -> Method:
    """The default without a choice of checkpoint: nothing but the end of the training is measured."""
    default = detector("last-checkpoint", "last checkpoint", ModelConfig())

    def fit(train: Matrix, seed: int) -> Score:
        with patch("stream_detector.fitting.fit.measured_steps", lambda steps: (steps,)):
            return default.fit(train, seed)

    return replace(default, fit=fit, settings={**default.settings, "measured": "last"})


ABLATION = (
    OURS,
    *(detector(name.replace(" ", "-"), name, varied(changes)) for name, changes in VARIATIONS.items()),
    _last_checkpoint(),
    SEARCH,
)


if __name__ == "__main__":
    sys.exit(benchmark("ablation", "Ablation", ABLATION, sys.argv[1:]))
