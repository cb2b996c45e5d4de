"""What a fit took as features, as a table."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from stream_detector.cli.common import answers
from stream_detector.foreign import printable

__all__ = ["show_features"]


def show_features(lineage: Mapping[str, Any]) -> None:
    """Shows on standard output what a model's lineage says of how its records were read, of its features, and of what was left out and why."""
    for remark in lineage.get("read", ()):
        answers.print(printable(remark))
    table = Table("feature", "kind", "coverage", "distinct", "range", "note", title="features")
    for each in lineage.get("features", ()):
        table.add_row(*map(printable, (each["name"], each["kind"], *_figures(each), each["note"])))
    answers.print(table)
    if left_out := lineage.get("not_features"):
        reasons = Table("left out", "why")
        for name, why in left_out.items():
            reasons.add_row(printable(name), printable(why))
        answers.print(reasons)


def _figures(each: Mapping[str, Any]) -> tuple[str, str, str]:
    span = "" if each["low"] is None else f"{each['low']:.6g} to {each['high']:.6g}"
    return f"{each['coverage']:.1%}", f"{each['distinct']:,}", span
