"""What peers need done to records first: no missing values, comparable columns."""

from collections.abc import Callable

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from benchmarks.quality.data import Matrix

__all__ = ["SCALINGS", "fit_scaling"]

SCALINGS = {"none": FunctionTransformer, "standard": StandardScaler, "min-max": MinMaxScaler}


def fit_scaling(name: str, train: Matrix) -> Callable[[Matrix], Matrix]:
    """Learns medians (for missing values) and one of `SCALINGS` from training records."""
    # A column without any value is kept, as zeros: dropping it would change the width.
    pipeline = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), SCALINGS[name]())
    pipeline.fit(train)
    return lambda X: np.ascontiguousarray(pipeline.transform(X), dtype=np.float32)
