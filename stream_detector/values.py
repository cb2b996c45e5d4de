"""Reads one value of a numeric feature: as a number, as missing, or as neither."""

from decimal import Decimal
from numbers import Real

__all__ = ["MISSING", "number"]

MISSING = frozenset({"", "-", "?", "na", "n/a", "#n/a", "nan", "nil", "none", "null"})
"""Texts, in lower case, that stand for a missing number."""

TRUTHS = {"true": 1.0, "false": 0.0}


def number(value: object) -> float | None:
    """The number that a value is or that its text reads as, None when it is missing.

    Booleans, and the texts `true` and `false`, are 1 and 0. Raises `ValueError` when the value is no
    number, `OverflowError` when it is one beyond a double.
    """
    if isinstance(value, str):
        return _read(value)
    if isinstance(value, Real | Decimal) or _is_numpy_bool(value):
        found = float(value)  # type: ignore[arg-type]
        return None if found != found else found
    if value is None:
        return None
    raise ValueError("no number")


def _read(text: str) -> float | None:
    bare = text.strip().lower()
    if bare in MISSING:
        return None
    if bare in TRUTHS:
        return TRUTHS[bare]
    if "_" in bare or not bare.isascii():  # Python reads 1_000 and other scripts' digits; nobody else does
        raise ValueError("no number")
    return float(bare)


def _is_numpy_bool(value: object) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ in {"bool", "bool_"}
