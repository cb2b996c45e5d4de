"""Small fitted models that several tests share, made once."""

from functools import cache, partial
from typing import get_args

import numpy as np
import torch

from stream_detector import DetectorModel, Feature, FeatureSchema, Kind, ModelConfig, ModelSettings, fit
from stream_detector.gan.networks import ARCHITECTURES
from stream_detector.gan.settings import MODES, InversionSettings, View
from stream_detector.model import as_matrix

# Threads that wait for each other on a busy machine make small products ten times slower.
torch.set_num_threads(1)

QUICK = ModelSettings(steps=500, members=1, hidden=32, averaging=0.98, batch=128)


def correlated(rows, seed=0):
    """Six correlated features, the last with gaps: float32 [row, 6]."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, 2))
    mixed = hidden @ np.random.default_rng(99).normal(size=(2, 6)) + 0.05 * rng.normal(size=(rows, 6))
    mixed[rng.random(rows) < 0.1, 5] = np.nan
    return mixed.astype(np.float32)


@cache
def numeric(**inversion) -> DetectorModel:
    """A model of `correlated` records; every record is searched for."""
    search = InversionSettings(**{"screen": 0.0, **inversion})
    return fit(correlated(500), config=ModelConfig(model=QUICK, inversion=search), device="cpu")


def mixed_rows(rows, seed=0):
    """Feature mappings with a number, a category, a cyclic hour, a constant and gaps."""
    rng = np.random.default_rng(seed)
    load = rng.normal(50, 5, rows)
    return [
        {
            "load": float(value),
            "host": "abc"[index % 3],
            "hour": float(rng.uniform(0, 24)),
            "fixed": 7.0,
            "spare": None if rng.random() < 0.2 else float(2 * value),
        }
        for index, value in enumerate(load)
    ]


MIXED = FeatureSchema(
    (
        Feature("load"),
        Feature("host", Kind.CATEGORICAL),
        Feature("hour", Kind.CYCLIC, period=24.0),
        Feature("fixed"),
        Feature("spare"),
    )
)


@cache
def mixed() -> DetectorModel:
    """A model of `mixed_rows`."""
    return fit(mixed_rows(600), schema=MIXED, config=ModelConfig(model=QUICK), device="cpu")


@cache
def in_context():
    """A model with a category and an hour as context, and records."""
    rows = mixed_rows(400)
    schema = FeatureSchema(
        (
            Feature("load"),
            Feature("spare"),
            Feature("host", Kind.CATEGORICAL, context=True),
            Feature("hour", Kind.CYCLIC, period=24.0, context=True),
        )
    )
    return fit(rows, schema, ModelConfig(model=QUICK), device="cpu"), as_matrix(mixed_rows(300, 1), schema)


@cache
def shaped(starts=1, **changes):
    """A model whose networks or searches are changed, and records."""
    settings = ModelSettings(**QUICK.model_dump() | {"steps": 60} | changes)
    search = InversionSettings(screen=0.5, steps=4, starts=starts)
    return fit(correlated(400), config=ModelConfig(model=settings, inversion=search), device="cpu"), correlated(700, 3)


CASES = {
    "numbers with gaps": lambda: (numeric(), correlated(700, 3)),
    "categories and hours": lambda: (mixed(), as_matrix(mixed_rows(300, 1), mixed().schema)),
    "context": in_context,
    "two views": lambda: shaped(views=("tamed", "soft"), members=2, discriminators=3),
    "several starts": lambda: shaped(starts=5, views=("tamed", "soft"), members=2),
    **{f"architecture {name}": partial(shaped, architecture=name) for name in ARCHITECTURES},
    **{f"view {name}": partial(shaped, views=(name,)) for name in get_args(View)},
    **{f"mode {name}": partial(shaped, mode=name) for name in MODES},
}
"""Networks, views, modes and features of every kind that can be chosen: each makes a fitted model and records."""
