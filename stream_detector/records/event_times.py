"""Event times of many records at once, in nanoseconds since 1970, as contexts count them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stream_detector.config import RecordConfig
from stream_detector.records.documents import PER_SECOND, Document, Unit, entity_names, guessed, moment, values_at

__all__ = ["NO_TIME", "entities_and_times", "nanoseconds"]

NO_TIME = -(2**63)
"""Stands where a record has none."""
MOST = 2**62 // 1_000
"""Microseconds from 1970, either way, to 1823 and 2116: differences of times do not overflow. Beyond is no time."""
PLAIN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)
"""Text that NumPy reads as `moment` does."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = 1_000  # nanoseconds


def entities_and_times(
    documents: Sequence[Document], config: RecordConfig
) -> tuple[list[str | None], NDArray[np.int64]]:
    """Entities and event times (int64 [record], nanoseconds) of documents, or of rows of a table, by `record.*`."""
    times = values_at(documents, config.time_path)
    return entity_names(documents, config), nanoseconds(times, config.time_unit)


def nanoseconds(values: Sequence[Any] | NDArray[Any], unit: Unit | Literal["auto"] = "auto") -> NDArray[np.int64]:
    """Nanoseconds since 1970 of event times as records give them, int64 [record]; `NO_TIME` for what is none.

    `values` are text (RFC 3339), numbers in `unit`, datetimes, or an array of datetime64. Cut to microseconds.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        return _counted(values.astype("datetime64[us]"))
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    for at_once in (_of_plain_text(plain), _of_numbers(plain, unit)):
        if at_once is not None:
            return at_once
    return np.array([_one(value, unit) for value in plain], np.int64)


def _of_plain_text(values: Sequence[Any]) -> NDArray[np.int64] | None:
    """All at once, where all are text in UTC to the second or finer; None where one is something else."""
    if set(map(type, values)) != {str} or not all(map(PLAIN.fullmatch, values)):
        return None
    try:
        return _counted(np.array([text[:-1] for text in values], "datetime64[us]"))
    except ValueError:
        return None


def _of_numbers(values: Sequence[Any], unit: Unit | Literal["auto"]) -> NDArray[np.int64] | None:
    """All at once, where all are whole numbers in one unit; None where one is something else."""
    if set(map(type, values)) != {int}:
        return None
    least, most = min(values), max(values)
    units = {guessed(least), guessed(most)} if unit == "auto" else {unit}
    known = units.pop()
    if units or known is None or least < 0 or most * max(10**6 // PER_SECOND[known], 1) >= 2**63:
        return None
    finer = PER_SECOND[known] // 10**6
    numbers = np.array(values, np.int64)
    return _counted(numbers // finer if finer else numbers * (10**6 // PER_SECOND[known]))


def _counted(times: NDArray[np.datetime64] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Nanoseconds of times in microseconds; those that are none are the lowest number, which is beyond, too."""
    whole = times.astype(np.int64)
    return np.where((whole < -MOST) | (whole > MOST), NO_TIME, whole * MICROSECOND)


def _one(value: Any, unit: Unit | Literal["auto"]) -> int:
    try:
        found = moment(value, unit)
    except (ValueError, ArithmeticError):
        return NO_TIME
    if found is None:
        return NO_TIME
    since = found.replace(tzinfo=found.tzinfo or UTC) - EPOCH
    whole = (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds
    return whole * MICROSECOND if abs(whole) <= MOST else NO_TIME
