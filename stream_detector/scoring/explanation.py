"""Which features make a record unlike any that the generator can make."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stream_detector.features import FeatureSchema, Kind

__all__ = ["Direction", "Explanation", "FeatureExplanation", "Value", "explain"]

Direction = Literal["high", "low", "expected", "unexpected", "missing"]
Value = float | str | None
UNSEEN = "(unseen)"  # how a category that fitting never saw is named


@dataclass(frozen=True, slots=True)
class FeatureExplanation:
    """One judged feature: what was observed, what the generator expected in the input's units, its
    share of the surprise (0 or more, together 1 over a record), and on which side it lies.
    """

    name: str
    value: Value
    expected: Value
    contribution: float
    direction: Direction


@dataclass(frozen=True, slots=True)
class Explanation:
    """A record's judged features, the greatest contribution first."""

    features: tuple[FeatureExplanation, ...]


def explain(
    schema: FeatureSchema,
    observed: NDArray[np.float32],
    expected: NDArray[np.float64],
    surprise: NDArray[np.float64],
) -> list[Explanation]:
    """An explanation a record, from [record, feature] arrays.

    `observed` and `expected` are in the input's units (codes for categories), `surprise` is each
    feature's unexplained part, 0 or more, in any unit. Features that are context are left out.
    """
    judged = np.array([not feature.context for feature in schema.features])
    categorical = np.array([feature.kind is Kind.CATEGORICAL for feature in schema.features])
    surprise = np.where(categorical & (observed == expected), 0.0, surprise)  # the very category that was expected
    total = (surprise * judged).sum(1, keepdims=True)
    even = np.broadcast_to(judged / judged.sum(), surprise.shape)
    shares = np.where(total > 0, surprise * judged / np.where(total > 0, total, 1.0), even)
    return [
        _explain_one(schema, observed[row], expected[row], shares[row], np.flatnonzero(judged))
        for row in range(len(observed))
    ]


def _explain_one(
    schema: FeatureSchema,
    observed: NDArray[np.float32],
    expected: NDArray[np.float64],
    shares: NDArray[np.float64],
    judged: NDArray[np.intp],
) -> Explanation:
    order = judged[np.argsort(-shares[judged], kind="stable")]
    return Explanation(
        tuple(
            FeatureExplanation(
                name=schema.names[feature],
                value=_named(schema, feature, float(observed[feature])),
                expected=_named(schema, feature, float(expected[feature])),
                contribution=float(shares[feature]),
                direction=_direction(schema, feature, float(observed[feature]), float(expected[feature])),
            )
            for feature in order.tolist()
        )
    )


def _named(schema: FeatureSchema, feature: int, value: float) -> Value:
    if np.isnan(value):
        return None
    described = schema.features[feature]
    if described.kind is not Kind.CATEGORICAL:
        return float(f"{value:.6g}")
    code = int(value)
    return described.vocabulary[code] if 0 <= code < len(described.vocabulary) else UNSEEN


def _direction(schema: FeatureSchema, feature: int, observed: float, expected: float) -> Direction:
    if np.isnan(observed):
        return "missing"
    if schema.features[feature].kind is Kind.CATEGORICAL:
        return "expected" if observed == expected else "unexpected"
    return "high" if observed >= expected else "low"
