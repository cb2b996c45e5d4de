"""Which features make a record unlike any that the generator can make."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.features import FeatureSchema, Kind

__all__ = ["Direction", "Explanation", "FeatureExplanation", "Value", "explain"]

Direction = Literal["high", "low", "expected", "unexpected", "missing"]
Value = float | str | None
UNSEEN = "(unseen)"  # how a category that fitting never saw is named


class FeatureExplanation(NamedTuple):
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

    `observed` and `expected` are in the input's units (codes for categories), less the features'
    origins, which are added to what is shown. `surprise` is each feature's unexplained part, 0 or
    more, in any unit. Features that are context are left out.
    """
    judged = np.array([not feature.context for feature in schema.features])
    categorical = np.array([feature.kind is Kind.CATEGORICAL for feature in schema.features])
    surprise = np.where(categorical & (observed == expected), 0.0, surprise)  # the very category that was expected
    total = (surprise * judged).sum(1, keepdims=True)
    even = np.broadcast_to(judged / judged.sum(), surprise.shape)
    shares = np.where(total > 0, surprise * judged / np.where(total > 0, total, 1.0), even)
    places = np.flatnonzero(judged)
    order = places[np.argsort(-shares[:, places], axis=1, kind="stable")].tolist()
    values, expectations = (_named(schema, _shown(part.astype(np.float64), schema)) for part in (observed, expected))
    directions = _directions(categorical, observed, expected)
    names, parts = schema.names, shares.tolist()
    return [
        Explanation(
            tuple(
                FeatureExplanation(names[f], values[f][row], expectations[f][row], parts[row][f], directions[row][f])
                for f in order[row]
            )
        )
        for row in range(len(observed))
    ]


def _named(schema: FeatureSchema, shown: NDArray[np.float64]) -> list[list[Value]]:
    """Values [record, feature] as they are shown, by feature: a category by its name, None = missing."""
    columns: list[list[Value]] = []
    for feature, column in zip(schema.features, shown.T.tolist(), strict=True):
        if feature.kind is Kind.CATEGORICAL:
            names = dict(enumerate(feature.vocabulary))
            columns.append([None if code != code else names.get(int(code), UNSEEN) for code in column])
        else:
            columns.append([None if value != value else value for value in column])
    return columns


def _shown(values: NDArray[np.float64], schema: FeatureSchema) -> NDArray[np.float64]:
    """Values [record, feature] with their origins, to 6 significant digits of what is beside the origin."""
    rounded = _six_digits(values)
    for column in np.flatnonzero(schema.origins):
        whole = rounded[:, column] + schema.origins[column]
        rounded[:, column] = [float(f"{value:.15g}") for value in whole]  # without the last bits of the sum
    return rounded


def _six_digits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounded to 6 significant digits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.floor(np.log10(np.abs(values)))
    spare = 5 - np.nan_to_num(exponent, neginf=0.0)
    up, down = 10.0 ** np.maximum(spare, 0), 10.0 ** np.maximum(-spare, 0)  # one of them is 1: no rounding of its own
    rounded: NDArray[np.float64] = np.round(values * up / down) * down / up
    return rounded


def _directions(
    categorical: NDArray[np.bool_], observed: NDArray[np.float32], expected: NDArray[np.float64]
) -> list[list[Direction]]:
    words = np.where(
        categorical,
        np.where(observed == expected, "expected", "unexpected"),
        np.where(observed >= expected, "high", "low"),
    )
    words[np.isnan(observed)] = "missing"
    found: list[list[Direction]] = words.tolist()
    return found
