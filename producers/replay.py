"""Replays a table to a topic, at a rate or flat out: `python -m producers.replay FILE`.

Any table that `stream-detector fit` reads; `-` is standard input. A row becomes a telemetry record, laid out
as `record.*` says. Its id is what `record.id_path` names in it, or its row number in the file, from 0. Text
stays text, so categories keep their names; an empty cell, NaN and null are missing values.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from producers.feed import Message, add_target, feed, settings
from stream_detector.config import RecordConfig
from stream_detector.errors import DataError
from stream_detector.records import telemetry_to_json, value_at
from stream_detector.runtime import program
from stream_detector.tables.reading import FORMATS, Row, open_table
from stream_detector.tables.records import features_of

__all__ = ["Selection", "main", "messages"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which columns are features (None: all), which are withheld, and which say whose and when."""

    columns: tuple[str, ...] | None = None
    drop: frozenset[str] = frozenset()
    entity: str | None = None
    time: str | None = None

    def features(self, row: Mapping[str, Any], named: frozenset[str]) -> Row:
        """The features of a row, those columns left out that are `named` as something else.

        Raises `DataError` when a selected column is not there.
        """
        try:
            chosen = {name: row[name] for name in self.columns} if self.columns is not None else row
        except KeyError as error:
            raise DataError(f"column {error.args[0]!r} is not in the file; it has {', '.join(row)}") from None
        withheld = self.drop | named
        return {name: value for name, value in chosen.items() if name not in withheld}


def messages(table: Iterable[Row], selection: Selection, record: RecordConfig) -> Iterator[Message]:
    """Key and value of each row's record; the key is its entity, so that one entity keeps its order.

    `record` says where a row has its id, time, entity and features, and where they go.
    """
    paths = record.id_path, selection.time or record.time_path, selection.entity or record.entity_path
    for number, row in enumerate(table):
        inner = features_of(row, record)
        for column in filter(None, (selection.time, selection.entity)):
            _require(row, column)
        event_id, time, entity = (value_at(row, path) if path else None for path in paths)
        key = None if entity is None else str(entity)
        features = selection.features(inner, frozenset(paths) if inner is row else frozenset())
        try:
            value = telemetry_to_json(str(number if event_id is None else event_id), time, key, features, record)
        except TypeError as error:
            raise DataError(f"row {number}: cannot be written as JSON ({error}); mend it, or drop the column") from None
        yield None if key is None else key.encode(), value


def _require(row: Row, column: str) -> None:
    if value_at(row, column) is None and column not in row:
        raise DataError(f"column {column!r} is not in the file; it has {', '.join(row)}")


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return program.run(lambda: _run(_parser().parse_args(argv)), terminated=0)


def _run(arguments: argparse.Namespace) -> None:
    selection = Selection(
        columns=tuple(arguments.columns) if arguments.columns else None,
        drop=frozenset(arguments.drop),
        entity=arguments.entity,
        time=arguments.time,
    )
    config = settings(arguments)
    table = open_table(arguments.file, frozenset(arguments.text), arguments.header)
    chosen = islice(table.rows, arguments.limit)
    feed(messages(chosen, selection, config.record), arguments, config, total=arguments.limit)


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m producers.replay", description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", type=Path, help=FORMATS)
    parser.add_argument("--columns", type=_names, default=[], metavar="A,B", help="features (default: all columns)")
    parser.add_argument("--drop", type=_names, default=[], metavar="A,B", help="columns to withhold, such as the label")
    parser.add_argument("--text", type=_names, default=[], metavar="A,B", help="columns of numbers to keep as text")
    parser.add_argument("--header", type=_names, metavar="A,B", help="column names of a CSV file without a header line")
    parser.add_argument("--entity", help="column that says whose record it is; also the record's key")
    parser.add_argument("--time", help="column with the event time, RFC 3339 or epoch milliseconds")
    parser.add_argument("--limit", type=int, help="rows to send (default: all)")
    add_target(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
