"""Decides which columns of records are features, and of which kind, and says why.

Files, topics, DataFrames and mappings are treated alike. What most values of a column are decides its kind:

- numbers, booleans, and text that reads as a number make a numeric feature;
- other text makes a categorical one, unless nearly every record has a text of its own;
- a value of another kind than its column is missing, and counted.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from itertools import chain
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stream_detector.config import Config
from stream_detector.errors import DataError
from stream_detector.features import FLOAT32_MAX, MAX_VOCABULARY, NUMBERS_OR_NONE, Feature, FeatureSchema, Kind
from stream_detector.values import number

__all__ = ["NOTHING", "Learnt", "barred", "described", "learn", "record_number", "with_origins"]

NEARLY_ALL = 0.95  # of the values of a column that is mostly text: those that read as numbers, for it to be numeric
MOST_DIFFERENT = 0.5  # different texts by texts, above which a column says which record it is, not how
FEWEST = 0.01  # of all records that must have a column
MOST_LISTED = 100  # columns that are no features, by name

Row = Mapping[str, Any]
Where = Callable[[int], str]
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Learnt:
    """The content of records: the features with their vocabularies, and the rows without odd values.

    `left_out` has the reason of each column that is no feature; `odd` says of a feature how many of its
    values were of another kind, and shows the first of them; `origin` is what else a model's lineage is to tell.
    """

    schema: FeatureSchema
    rows: Sequence[Row]
    left_out: Mapping[str, str] = field(default_factory=dict)
    odd: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)


def record_number(position: int) -> str:
    """Names a record by its number, from 0, where nothing better is known."""
    return f"record {position}"


def barred(config: Config, *, flat: bool) -> dict[str, str]:
    """Names that are no features whatever they hold, with the reason: what `exclude` and `record.*` name.

    `flat`: the features stand beside id, time and entity, not in an object of their own.
    """
    record = config.record
    inside = "" if flat else f"{record.features_path}."
    paths = {"id_path": record.id_path, "time_path": record.time_path, "entity_path": record.entity_path}
    named = {
        path.removeprefix(inside): f"named by record.{key}" for key, path in paths.items() if path.startswith(inside)
    }
    return named | dict.fromkeys(config.exclude, "left out by 'exclude:'")


def learn(
    rows: Sequence[Row],
    declared: FeatureSchema | None = None,
    left_out: Mapping[str, str] = NOTHING,
    where: Where = record_number,
) -> Learnt:
    """Learns the features of the rows: those `declared`, or what most rows hold less the columns `left_out` for a reason.

    `where` names a row by its position. Raises `DataError` when no column can be a feature, a declared one
    holds nothing of its kind, or has more than 1,000 categories.
    """
    counts = Counter(chain.from_iterable(rows))
    if strange := [name for name in counts if not isinstance(name, str)]:
        raise DataError(f"column {strange[0]!r:.40} is called by no text; names of features are text")
    known = {feature.name: feature for feature in declared.features} if declared else {}
    judged = [
        _declared(known[name], rows, where)
        if name in known
        else _found(name, counts[name], rows, left_out, where, only_known=bool(known))
        for name in dict.fromkeys((*known, *counts))
    ]
    reasons = {each.name: each.reason for each in judged if each.feature is None}
    features = tuple(each.feature for each in judged if each.feature is not None)
    if not features:
        raise DataError(f"no column can be a feature ({_examples(reasons)}); declare some under 'features:'")
    cleaned = _without(rows, {each.name: each.odd for each in judged if each.told})
    told = {each.name: each.told for each in judged if each.told}
    schema = FeatureSchema(features).with_vocabularies(cleaned)
    return Learnt(with_origins(schema, cleaned), cleaned, _listed(reasons), told)


def with_origins(schema: FeatureSchema, rows: Sequence[Row]) -> FeatureSchema:
    """The schema with the origins that the rows' numbers call for."""
    return schema.with_origins(Column.of([row.get(name) for row in rows]).numbers for name in schema.names)


def described(learnt: Learnt, matrix: NDArray[np.float32]) -> dict[str, Any]:
    """Describes a fit's features, as JSON values: `features`, `not_features` with the reasons, `constant` names.

    `matrix` is float32 [record, feature] of the learnt schema. A feature has its name, kind, coverage (share of
    records with a value), number of distinct values, lowest and highest number, and a note.
    """
    features = [
        _described(feature, column, learnt.odd.get(feature.name, ""))
        for feature, column in zip(learnt.schema.features, matrix.T, strict=True)
    ]
    constant = sorted(each["name"] for each in features if each["distinct"] <= 1)
    return {"features": features, "not_features": dict(learnt.left_out), "constant": constant, **learnt.origin}


@dataclass(frozen=True, slots=True)
class ProfiledColumn:
    """A column, as a feature or with the reason why it is none; flags of its odd values, and a remark on them."""

    name: str
    feature: Feature | None
    reason: str
    odd: NDArray[np.bool_]
    told: str


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one column read as numbers, NaN where they are none; `texts` and `others` (types) are counted."""

    numbers: NDArray[np.float64]
    is_text: NDArray[np.bool_]
    unreadable: NDArray[np.bool_]
    texts: Counter[str]
    others: Counter[str]

    @classmethod
    def of(cls, values: Sequence[object]) -> Self:
        """Reads each value once; plain numbers all at once."""
        texts, others = Counter(value for value in values if isinstance(value, str)), Counter[str]()
        is_text, unreadable = np.zeros((2, len(values)), dtype=bool)
        numbers = _plain(values)
        if numbers is None:
            numbers = np.full(len(values), np.nan)
            is_text[:] = [isinstance(value, str) for value in values]
            for position, value in enumerate(values):
                numbers[position], unreadable[position] = _read(value, others)
        unreadable |= np.abs(numbers) > FLOAT32_MAX
        return cls(np.where(unreadable, np.nan, numbers), is_text, unreadable, texts, others)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Flags the values that are present as numbers, or are there and unreadable."""
        there: NDArray[np.bool_] = ~np.isnan(self.numbers) | self.unreadable
        return there

    def odd(self, kind: Kind) -> NDArray[np.bool_]:
        """Flags the values that are present and cannot be of this kind."""
        return ~self.is_text & self.present if kind is Kind.CATEGORICAL else self.unreadable

    def kind(self) -> Kind:
        """The kind that most values are of."""
        numbers = ~np.isnan(self.numbers)
        total, reading, real = self.present.sum(), numbers.sum(), (numbers & ~self.is_text).sum()
        if reading >= NEARLY_ALL * total:
            return Kind.NUMERIC
        mostly = real > total / 2 or (reading > total / 2 and self.near_unique())
        return Kind.NUMERIC if mostly else Kind.CATEGORICAL

    def near_unique(self) -> bool:
        """Tells whether the texts are too many for categories."""
        return len(self.texts) > min(MAX_VOCABULARY, MOST_DIFFERENT * self.texts.total())

    def unfit(self, kind: Kind) -> str:
        """The reason why the column is no feature; empty when it is one."""
        there = int((self.present | self.is_text if kind is Kind.CATEGORICAL else self.present).sum())
        rows = len(self.numbers)
        if not there:
            return "all missing"
        if 2 * self.others.total() > there:
            return f"neither numbers nor text, but {', '.join(self.others)}"
        if there < _least(rows):
            return f"in {there:,} of {rows:,} records only"
        if kind is Kind.CATEGORICAL and self.near_unique():
            return (
                f"near-unique text, {len(self.texts):,} different values such as {next(iter(self.texts))!r:.40}: it says "
                "which record it is, not how"
            )
        return ""


def _plain(values: Sequence[object]) -> NDArray[np.float64] | None:
    """Numbers and gaps all at once; None when anything else is among them."""
    if not NUMBERS_OR_NONE.issuperset(map(type, values)):
        return None
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer beyond a double
        return None


def _read(value: object, others: Counter[str]) -> tuple[float, bool]:
    """A value as a number, NaN where it is none, and whether it is there but none."""
    try:
        found = number(value)
    except OverflowError:
        return np.nan, True
    except ValueError:
        if not isinstance(value, str):
            others["times" if isinstance(value, date | time) else type(value).__name__] += 1
        return np.nan, True
    return np.nan if found is None else found, False


def _least(rows: int) -> float:
    return min(rows, max(2.0, FEWEST * rows))


def _found(
    name: str, count: int, rows: Sequence[Row], left_out: Mapping[str, str], where: Where, *, only_known: bool
) -> ProfiledColumn:
    """A column that nobody declared."""
    reason = left_out.get(name, "not declared under 'features:'" if only_known else "")
    if not reason and count < _least(len(rows)):
        reason = f"in {count:,} of {len(rows):,} records only"
    if reason:
        return ProfiledColumn(name, None, reason, np.zeros(0, dtype=bool), "")
    column = Column.of([row.get(name) for row in rows])
    kind = column.kind()
    reason = column.unfit(kind)
    odd = column.odd(kind)
    return ProfiledColumn(
        name, None if reason else Feature(name, kind), reason, odd, "" if reason else _told(name, odd, rows, where)
    )


def _declared(feature: Feature, rows: Sequence[Row], where: Where) -> ProfiledColumn:
    """A column that is a feature whatever it holds; raises `DataError` when it holds nothing of that kind."""
    column = Column.of([row.get(feature.name) for row in rows])
    odd = column.odd(feature.kind)
    told = _told(feature.name, odd, rows, where)
    if odd.any() and odd.sum() == column.present.sum():
        raise DataError(f"feature {feature.name!r} is declared {feature.kind} and holds nothing of that kind: {told}")
    return ProfiledColumn(feature.name, feature, "", odd, told)


def _told(name: str, odd: NDArray[np.bool_], rows: Sequence[Row], where: Where) -> str:
    if not odd.any():
        return ""
    first = int(np.flatnonzero(odd)[0])
    return f"{odd.sum():,} odd, taken as missing: {rows[first][name]!r:.40} in {where(first)}"


def _without(rows: Sequence[Row], odd: Mapping[str, NDArray[np.bool_]]) -> Sequence[Row]:
    """Takes odd values out of the rows; a row without any is not copied."""
    if not odd:
        return rows
    cleaned = list(rows)
    for name, where in odd.items():
        for position in np.flatnonzero(where).tolist():
            cleaned[position] = {**cleaned[position], name: None}
    return cleaned


def _examples(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name!r}: {reason}" for name, reason in list(reasons.items())[:5]) or "there is none"


def _listed(reasons: Mapping[str, str]) -> dict[str, str]:
    """The reasons of the first columns, and the number of the others."""
    listed = dict(list(reasons.items())[:MOST_LISTED])
    if more := len(reasons) - len(listed):
        listed["(others)"] = f"{more:,} more columns"
    return listed


def _described(feature: Feature, column: NDArray[np.float32], odd: str) -> dict[str, Any]:
    values = column[~np.isnan(column)].astype(np.float64) + feature.origin
    distinct = len(np.unique(values))
    ranged = feature.kind is not Kind.CATEGORICAL and distinct > 0
    return {
        "name": feature.name,
        "kind": feature.kind.value,
        "coverage": round(len(values) / max(len(column), 1), 4),
        "distinct": distinct,
        "low": float(values.min()) if ranged else None,
        "high": float(values.max()) if ranged else None,
        "note": "; ".join(filter(None, (*_notes(values, distinct), odd))),
    }


def _notes(values: NDArray[np.float64], distinct: int) -> Iterator[str]:
    if not distinct:
        yield "all missing"
    elif distinct == 1:
        yield "constant, kept as a feature: any other value will be unlike normal"
    elif distinct > len(values) / 2 and (np.diff(values) >= 0).all():
        yield "rises from record to record: a time or a counter is better left out, under 'exclude:'"
