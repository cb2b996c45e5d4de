"""Deep peers as PyOD ships them, with the caps that a benchmark of an hour needs."""

from typing import Any

import numpy as np
import torch
from pyod.models.alad import ALAD
from pyod.models.anogan import AnoGAN
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.deep_svdd import DeepSVDD

from benchmarks.quality.classical import PYOD
from benchmarks.quality.data import Matrix
from benchmarks.quality.method import Method, Score
from benchmarks.quality.scaling import fit_scaling

__all__ = ["DEEP"]

SVDD_STEPS = 6_000
SVDD_BATCH = 32
ALAD_SETTINGS = {"epochs": 400, "spectral_normalization": True, "add_recon_loss": True}
ALAD_ROWS = 5_000
ANOGAN_EPOCHS = 200
ANOGAN_ROWS = 150


def _seeded(seed: int, rows: int | None, train: Matrix) -> Matrix:
    """The first `rows` records (they are in random order already), with every global generator seeded."""
    np.random.seed(seed)  # noqa: NPY002 - PyOD draws from the global generator
    torch.manual_seed(seed)
    return train[:rows]


def _fitted(model: Any, train: Matrix) -> Score:
    """Standardised here: PyOD's own divides by 1e-8 where a column is constant."""
    prepare = fit_scaling("standard", train)
    model.fit(prepare(train))
    return lambda X: (np.nan_to_num(model.decision_function(prepare(X)), nan=0.0),)


def _autoencoder(train: Matrix, seed: int) -> Score:
    model = AutoEncoder(preprocessing=False, random_state=seed, verbose=0, device=torch.device("cpu"))
    return _fitted(model, _seeded(seed, None, train))


def _deep_svdd(train: Matrix, seed: int) -> Score:
    steps = -(-len(train) // SVDD_BATCH)
    epochs = min(100, max(1, SVDD_STEPS // steps))
    model = DeepSVDD(
        train.shape[1], epochs=epochs, batch_size=SVDD_BATCH, preprocessing=False, random_state=seed, verbose=0
    )
    return _fitted(model, _seeded(seed, None, train))


def _alad(train: Matrix, seed: int) -> Score:
    model = ALAD(**ALAD_SETTINGS, preprocessing=False, device=torch.device("cpu"))
    return _fitted(model, _seeded(seed, ALAD_ROWS, train))


def _anogan(train: Matrix, seed: int) -> Score:
    model = AnoGAN(epochs=ANOGAN_EPOCHS, preprocessing=False, device=torch.device("cpu"))
    return _fitted(model, _seeded(seed, ANOGAN_ROWS, train))


DEEP = (
    Method("autoencoder", ("AutoEncoder",), _autoencoder, PYOD, note="PyOD's defaults: 64-32-64, 10 epochs"),
    Method(
        "deepsvdd",
        ("DeepSVDD",),
        _deep_svdd,
        {**PYOD, "steps": SVDD_STEPS},
        note=f"PyOD's defaults, 100 epochs but at most {SVDD_STEPS:,} steps of {SVDD_BATCH} records",
    ),
    Method(
        "alad",
        ("ALAD",),
        _alad,
        {**PYOD, **ALAD_SETTINGS, "rows": ALAD_ROWS},
        is_gan=True,
        note="PyOD's, given more than it ships with: 400 steps of 32 records instead of 200, spectral norm, "
        "reconstruction loss; at most 5,000 training records, for it shuffles them all at every step",
    ),
    Method(
        "anogan-pyod",
        ("AnoGAN (PyOD)",),
        _anogan,
        {**PYOD, "epochs": ANOGAN_EPOCHS, "rows": ANOGAN_ROWS},
        is_gan=True,
        note="PyOD's, which takes 20 steps a training record and none at scoring; so at most 150 training records "
        "and 200 epochs instead of 500",
    ),
)
