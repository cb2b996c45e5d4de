"""Entities and times as callers of the library give them: lists, arrays, or columns of data frames."""

from collections.abc import Sequence
from numbers import Number
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from stream_detector.errors import DataError
from stream_detector.records.event_times import NO_TIME, nanoseconds

__all__ = ["Given", "entities", "event_times"]

Given = Sequence[Any] | NDArray[Any]
"""A value for each record: a sequence, an array, or a column of a data frame."""


def entities(given: Given | None, count: int) -> list[str | None]:
    """Whose each of so many records is: text, numbers as text, None for nobody's. Raises `DataError` for another number."""
    if given is None:
        return [None] * count
    found = [_name(value) for value in _listed(given)]
    _require(len(found), count, "entity")
    return found


def event_times(given: Given | None, count: int) -> NDArray[np.int64]:
    """Nanoseconds since 1970 of so many records, int64; `NO_TIME` for what is no time. Raises `DataError` likewise."""
    if given is None:
        return np.full(count, NO_TIME)
    found = nanoseconds(_column(given))
    _require(len(found), count, "time")
    return found


def _column(given: Given) -> Given:
    """A column of a data frame as an array; Arrow copies only where it is told to."""
    if hasattr(given, "to_numpy"):
        array: NDArray[Any] = given.to_numpy(zero_copy_only=False) if hasattr(given, "to_pylist") else given.to_numpy()
        return array
    return given


def _listed(given: Given) -> list[Any]:
    for way in ("tolist", "to_list", "to_pylist"):
        if hasattr(given, way):
            found: list[Any] = getattr(given, way)()
            return found
    return list(given)


def _name(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | Number | UUID) or value != value:
        return None
    return str(value)


def _require(found: int, count: int, what: str) -> None:
    if found != count:
        raise DataError(f"`{what}` has {found:,} values for {count:,} records; give one for each")
