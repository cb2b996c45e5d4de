"""Finds features that do not vary: nothing can be learnt of them, and a stuck sensor makes one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema, Kind
from stream_detector.model import DetectorModel

__all__ = ["constant_features", "refuse_stuck"]


def constant_features(matrix: NDArray[np.float32], schema: FeatureSchema) -> list[str]:
    """Names of the features with one value at most in the records [record, feature], sorted."""
    varies = [len(np.unique(column[~np.isnan(column)])) > 1 for column in matrix.T]
    return sorted(name for name, moves in zip(schema.names, varies, strict=True) if not moves)


def refuse_stuck(constant: Sequence[str], schema: FeatureSchema, champion: DetectorModel | None) -> None:
    """Raises `DataError` when all features are constant, or one that the champion saw vary."""
    if len(constant) == len(schema.names):
        raise DataError("every feature is constant over the whole window: there is nothing to learn")
    if champion is not None and (stuck := sorted(set(constant) - set(_constant_for(champion)))):
        raise DataError(
            f"feature {stuck[0]!r} is constant over the whole window, and the current model knows it to vary: is its "
            "source stuck? Leave that time out with retrain.exclude, or fit anew with 'stream-detector fit'"
        )


def _constant_for(champion: DetectorModel) -> Sequence[str]:
    """The features that were constant for a model. Where its lineage does not say it, these are the numbers that its
    normaliser has no scale for, and every feature that is no number.
    """
    if "constant" in champion.lineage:
        noted: Sequence[str] = champion.lineage["constant"]
        return noted
    normaliser = champion.scorer.normaliser
    jumps = normaliser.jump[0][normaliser.layout.starts()[:-1]] > 0
    features = zip(champion.schema.features, jumps, strict=True)
    return [feature.name for feature, jumps_at_once in features if jumps_at_once or feature.kind is not Kind.NUMERIC]
