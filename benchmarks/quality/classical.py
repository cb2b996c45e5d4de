"""Peers without training by gradient: neighbours, trees, empirical distributions."""

from importlib.metadata import version
from typing import Any

from pyod.models.ecod import ECOD
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from benchmarks.quality.data import Matrix
from benchmarks.quality.method import Method, Score
from benchmarks.quality.scaling import fit_scaling

__all__ = ["CLASSICAL"]


def _knn(scaling: str, k: int) -> Any:
    def fit(train: Matrix, _seed: int) -> Score:
        prepare = fit_scaling(scaling, train)
        neighbours = NearestNeighbors(n_neighbors=k).fit(prepare(train))
        return lambda X: (neighbours.kneighbors(prepare(X))[0][:, -1],)

    return fit


def _lof(train: Matrix, _seed: int) -> Score:
    prepare = fit_scaling("standard", train)
    model = LocalOutlierFactor(n_neighbors=20, novelty=True).fit(prepare(train))
    return lambda X: (-model.score_samples(prepare(X)),)


def _iforest(train: Matrix, seed: int) -> Score:
    prepare = fit_scaling("none", train)
    model = IsolationForest(n_estimators=100, random_state=seed).fit(prepare(train))
    return lambda X: (-model.score_samples(prepare(X)),)


def _ecod(train: Matrix, _seed: int) -> Score:
    prepare = fit_scaling("none", train)
    model = ECOD().fit(prepare(train))
    return lambda X: (model.decision_function(prepare(X)),)


SKLEARN = {"scikit-learn": version("scikit-learn")}
PYOD = {"pyod": version("pyod")}

CLASSICAL = (
    Method(
        "knn",
        ("kNN",),
        _knn("standard", 5),
        {**SKLEARN, "k": 5, "scaling": "standard"},
        note="distance to the 5th neighbour, standardised features",
    ),
    Method(
        "knn-min-max",
        ("kNN, min-max",),
        _knn("min-max", 5),
        {**SKLEARN, "k": 5, "scaling": "min-max"},
        note="the same on min-max features",
    ),
    Method(
        "lof",
        ("LOF",),
        _lof,
        {**SKLEARN, "n_neighbors": 20, "scaling": "standard"},
        note="20 neighbours, novelty mode, standardised features",
    ),
    Method("iforest", ("IForest",), _iforest, {**SKLEARN, "trees": 100}, note="scikit-learn's defaults, 100 trees"),
    Method("ecod", ("ECOD",), _ecod, PYOD, note="PyOD's; it re-reads the training records at every scoring"),
)
