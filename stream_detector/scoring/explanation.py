"""Explanations: the features that make a record unlike any that the generator can make."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.features import FeatureSchema, Kind
from stream_detector.normaliser import Normaliser
from stream_detector.scoring.calibration import six_digits

__all__ = ["Completion", "Direction", "Explanation", "FeatureExplanation", "Value", "absent_shares", "explain"]

Direction = Literal["high", "low", "expected", "unexpected", "missing"]
Value = float | str | None
Completed = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]]
"""Records [record, feature] with other values where the second says so."""
Score = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Scores [record], 0 or more, of records [record, feature]."""
UNSEEN = "(unseen)"  # how a category that fitting never saw is named where only its code is known
APART = 8  # missing features that are looked at one by one; more of them share alike
TOGETHER = 256  # records that are looked at together, which bounds memory
ASKED = 2_048  # kept records among which there are some like a record


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
    """The judged features of a record, the greatest contribution first."""

    features: tuple[FeatureExplanation, ...]

    def revealing(self, named: Callable[[str], str | None], passed_over: frozenset[str] = frozenset()) -> "Explanation":
        """Names categories that fitting never saw as `named` calls them by their feature, where it knows.

        `passed_over` are features with such a category in whose place another one was explained.
        """
        if not passed_over and all(feature.value != UNSEEN for feature in self.features):
            return self
        return Explanation(
            tuple(
                f._replace(value=named(f.name) or UNSEEN, direction="unexpected")
                if f.value == UNSEEN or f.name in passed_over
                else f
                for f in self.features
            )
        )


class Completion:
    """Completes records from `kept` normal ones [record, feature], in the input's units.

    What stands in for a value is that of the kept record that is most like the rest. The generator's expectation, a
    robust fit, may lie far from where normal records are; on these the score is as on the true value (tested), so a
    score with and without tells what the value is to blame for.
    """

    def __init__(self, normaliser: Normaliser, kept: NDArray[np.float32]) -> None:
        self._normaliser = normaliser
        self._kept = kept[:: -(-len(kept) // ASKED)]
        known = normaliser(self._kept)
        self._columns = np.concatenate((known.views[0], known.context), 1)
        self._present = np.concatenate((known.present, np.ones_like(known.context)), 1)
        judged, owners = normaliser.layout.judged(), normaliser.layout.owners()
        self._owners = np.concatenate((owners[judged], owners[~judged]))

    def __call__(self, matrix: NDArray[np.float32], doubted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Records [record, feature] with other values where `doubted`; NaN where no kept record has them all."""
        given = self._normaliser(np.where(doubted, np.float32(np.nan), matrix))
        columns = np.concatenate((given.views[0], given.context), 1)
        present = np.concatenate((given.present, np.ones_like(given.context)), 1) * ~doubted[:, self._owners]
        completed = matrix.copy()
        for row in np.flatnonzero(doubted.any(1)):
            features = doubted[row]
            completed[row, features] = self._like(columns[row], present[row], features)[features]
        return completed

    def _like(
        self, columns: NDArray[np.float32], present: NDArray[np.float32], features: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The kept record nearest in the columns that are present, of those that have these features."""
        apart = (np.square(self._columns - columns) * self._present * present).sum(1)
        apart[np.isnan(self._kept[:, features]).any(1)] = np.inf
        nearest = int(apart.argmin())
        found: NDArray[np.float32] = self._kept[nearest]
        return found


def explain(
    schema: FeatureSchema,
    observed: NDArray[np.float32],
    expected: NDArray[np.float64],
    surprise: NDArray[np.float64],
    absent: NDArray[np.float64],
) -> list[Explanation]:
    """Explains records, given as [record, feature] arrays.

    `observed` and `expected` are in the input's units (codes for categories), less the features'
    origins, which are added to what is shown. `surprise` is each feature's unexplained part, 0 or
    more, in any unit, `absent` the share that a missing one carries (`absent_shares`). Features that are
    context are left out.
    """
    judged = np.array([not feature.context for feature in schema.features])
    categorical = np.array([feature.kind is Kind.CATEGORICAL for feature in schema.features])
    surprise = np.where(categorical & (observed == expected), 0.0, surprise)  # the very category that was expected
    shares = _shares(judged, judged & ~np.isnan(observed), surprise, absent)
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


def absent_shares(
    observed: NDArray[np.float32], missing: NDArray[np.bool_], completed: Completed, score: Score
) -> NDArray[np.float64]:
    """The share of a record's score that each missing feature carries, [record, feature] in [0, 1], together at most 1.

    It is how much lower the record would score with a value there that is like the rest of it. `missing`
    [record, feature] are the features that are judged and not there.
    """
    shares = np.zeros(missing.shape)
    lacking = np.flatnonzero(missing.any(1))
    for first in range(0, len(lacking), TOGETHER):
        rows = lacking[first : first + TOGETHER]
        shares[rows] = _absent(observed[rows], missing[rows], completed, score)
    return shares


def _absent(
    observed: NDArray[np.float32], missing: NDArray[np.bool_], completed: Completed, score: Score
) -> NDArray[np.float64]:
    whole = completed(observed, missing)
    given, without = (score(records).astype(np.float64) for records in (observed, whole))
    together = np.clip((given - without) / np.where(given > 0, given, 1.0), 0.0, 1.0)
    counts = missing.sum(1)
    weights = missing.astype(np.float64)
    rows, features = np.nonzero(missing & ((counts > 1) & (counts <= APART))[:, None])
    if len(rows):
        mended = observed[rows]
        mended[np.arange(len(rows)), features] = whole[rows, features]
        weights[rows, features] = np.maximum(given[rows] - score(mended), 0.0)
    total = weights.sum(1, keepdims=True)
    parts = np.where(total > 0, weights / np.where(total > 0, total, 1.0), missing / counts[:, None])
    shares: NDArray[np.float64] = parts * together[:, None]
    return shares


def _shares(
    judged: NDArray[np.bool_],
    present: NDArray[np.bool_],
    surprise: NDArray[np.float64],
    absent: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Contributions [record, feature]: what is missing has its share, what is there has the rest by its surprise."""
    surprise = surprise * present
    total = surprise.sum(1, keepdims=True)
    some = np.where(present.any(1, keepdims=True), present, judged)
    alike = some / some.sum(1, keepdims=True)
    left = 1.0 - absent.sum(1, keepdims=True)
    shares: NDArray[np.float64] = absent + left * np.where(total > 0, surprise / np.where(total > 0, total, 1.0), alike)
    return shares


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
    rounded = six_digits(values.ravel()).reshape(values.shape)
    for column in np.flatnonzero(schema.origins):
        whole = rounded[:, column] + schema.origins[column]
        rounded[:, column] = [float(f"{value:.15g}") for value in whole]  # without the last bits of the sum
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
