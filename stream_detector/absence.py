"""Features that a model judges and that a record, a table or a topic lacks.

What is missing is imputed, so records of another kind would all score alike, and as normal.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_detector import foreign
from stream_detector.errors import DataError
from stream_detector.features import Encoded, FeatureSchema, Kind, Rejection

__all__ = ["by_feature", "compared", "is_foreign", "lacking_columns", "present_names", "telling", "unseen", "within"]

NAMED = 8  # names that a message tells
LOOKED_AT = 100  # names of a record that the nearest spelling is looked for in

Bools = NDArray[np.bool_]


def within(ascending: NDArray[np.int64], rows: slice) -> slice:
    """The slice of ascending row numbers that are in a run of rows."""
    return slice(*np.searchsorted(ascending, (rows.start, rows.stop)).tolist())


def present_names(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names that have a value in any row."""
    return {name for row in rows for name, value in row.items() if value is not None and value == value}


def is_foreign(schema: FeatureSchema, names: Collection[str]) -> bool:
    """Tells whether records with these names are of another kind: more than half of the features are not among them."""
    return 2 * sum(name not in names for name in schema.names) > len(schema.names)


def compared(schema: FeatureSchema, names: Iterable[str]) -> str:
    """The features that are not among `names`, with the nearest spelling that is, and what is there instead."""
    return _compared(schema.names, tuple(sorted(names)[:LOOKED_AT]))


def lacking_columns(schema: FeatureSchema, columns: Collection[str], source: object) -> str | None:
    """Names the features that a table has no column for, None when it has all.

    Raises `DataError` when it lacks more than half.
    """
    if set(schema.names) <= set(columns):
        return None
    told = f"{source}: the model's features {compared(schema, columns)}"
    if is_foreign(schema, columns):
        raise DataError(f"{told}; give a table with the columns that the model was fitted on")
    return f"{told}; they count as missing in every record"


def telling(
    encoded: Encoded,
    schema: FeatureSchema,
    rows: Sequence[Mapping[str, Any]],
    usual: Bools | None = None,
    least: float = 0.0,
) -> Encoded:
    """Without the rows that tell too little: nothing of what is judged, or less than the share `least` of the features
    that are `usual` [feature]. `rows` are what was encoded, for the message; there may be none.
    """
    mute = _mute(encoded.matrix, schema, usual, least)
    if not len(mute):
        return encoded
    rejected = dict(encoded.rejected)
    for row in mute.tolist():
        at = encoded.kept[row]
        missing = np.isnan(encoded.matrix[row])
        names = present_names(rows[at : at + 1]) if rows else set(compress(schema.names, ~missing))
        rejected[at] = _rejection(schema, missing, names)
    left = np.setdiff1d(np.arange(len(encoded.kept)), mute)
    return Encoded(encoded.matrix[left], [encoded.kept[row] for row in left.tolist()], rejected)


def _mute(matrix: NDArray[np.float32], schema: FeatureSchema, usual: Bools | None, least: float) -> NDArray[np.int64]:
    missing = np.isnan(matrix)
    if not missing.any():
        return np.empty(0, np.int64)
    judged, usual = _judged(schema), np.zeros(len(schema.features), np.bool_) if usual is None else usual
    wanted = least * np.count_nonzero(usual)
    if missing.sum(1).max() < min(np.count_nonzero(judged), np.count_nonzero(usual) - wanted):
        return np.empty(0, np.int64)  # a gap here and there, as usual
    return np.flatnonzero(missing[:, judged].all(1) | ((~missing[:, usual]).sum(1) < wanted))


def _judged(schema: FeatureSchema) -> Bools:
    return np.array([not feature.context for feature in schema.features])


def by_feature(schema: FeatureSchema, matrix: NDArray[np.float32]) -> dict[str, NDArray[np.int64]]:
    """The rows [row] of [row, feature] that lack a feature, by its name; features that all have are left out."""
    missing = np.isnan(matrix)
    if not missing.any():
        return {}
    return {schema.names[at]: np.flatnonzero(missing[:, at]) for at in np.flatnonzero(missing.any(0)).tolist()}


def unseen(schema: FeatureSchema, matrix: NDArray[np.float32]) -> dict[int, NDArray[np.int64]]:
    """The rows [row] of [row, feature] with a category that fitting never saw, by the feature's position."""
    found = {
        at: np.flatnonzero(matrix[:, at] >= len(feature.vocabulary))
        for at, feature in enumerate(schema.features)
        if feature.kind is Kind.CATEGORICAL
    }
    return {at: rows for at, rows in found.items() if len(rows)}


def _rejection(schema: FeatureSchema, missing: Bools, names: set[str]) -> Rejection:
    what = compared(schema, names)
    if missing[_judged(schema)].all():
        return Rejection("no-known-feature", f"none of the features that are judged: {what}")
    return Rejection("too-few-features", f"{int(missing.sum())} of {len(missing)} features are missing: {what}")


@lru_cache(maxsize=256)  # a stream of such records has them by the thousand
def _compared(features: tuple[str, ...], names: tuple[str, ...]) -> str:
    known = set(names)
    absent = [name for name in features if name not in known]
    if not absent:
        return "their values are missing"
    folded = {name.casefold(): name for name in names if name not in features}
    told = [_with_nearest(name, folded) for name in absent[:NAMED]]
    others = [_short(name) for name in names if name not in features][:NAMED]
    more = f" and {len(absent) - NAMED:,} more" if len(absent) > NAMED else ""
    return f"{', '.join(told)}{more} not there; {'instead ' + ', '.join(others) if others else 'nothing instead'}"


def _with_nearest(name: str, folded: Mapping[str, str]) -> str:
    close = get_close_matches(name.casefold(), folded, n=1)
    return f"{_short(name)} (is it {_short(folded[close[0]])}?)" if close else _short(name)


def _short(name: str) -> str:
    return f"'{foreign.category(name)}'"
