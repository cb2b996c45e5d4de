"""Reads rows of a table as records, by `record.*`: where the features are, and which column is the label."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stream_detector.config import RecordConfig
from stream_detector.features import FeatureSchema, Kind
from stream_detector.records import value_at
from stream_detector.values import number

__all__ = ["categories", "features_of", "is_flat", "label_of"]

Row = Mapping[str, Any]


def features_of(row: Row, record: RecordConfig) -> Row:
    """The object at `record.features_path`; the row itself where it has none, as a line of CSV has not."""
    inner = value_at(row, record.features_path) if record.features_path else row
    return inner if isinstance(inner, dict) else row


def is_flat(rows: Sequence[Row], record: RecordConfig) -> bool:
    """Tells whether most rows hold their features beside id, time and entity."""
    return 2 * sum(features_of(row, record) is row for row in rows) > len(rows)


def categories(schema: FeatureSchema | None) -> frozenset[str]:
    """Names of the columns that are text whatever they hold."""
    return frozenset(f.name for f in schema.features if f.kind is Kind.CATEGORICAL) if schema else frozenset()


def label_of(rows: Sequence[Row]) -> str | None:
    """The name of the column of labels: one called `label`, or one called `y` that holds 0 and 1 only; None without."""
    names = rows[0] if rows else ()
    for name in sorted(names, key=lambda each: each.lower()):
        if name.lower() == "label" or (name.lower() == "y" and _binary(row.get(name) for row in rows)):
            return name
    return None


def _binary(values: Iterable[object]) -> bool:
    try:
        return {number(value) for value in values} <= {0.0, 1.0, None}
    except (ValueError, OverflowError):
        return False
