"""Replays a table to a topic, at a rate or flat out: `python -m producers.replay FILE`.

A row becomes a telemetry record whose id is its row number in the file, counted from 0. Text stays
text, so categories keep their names; an empty cell, NaN and null are missing values.
"""

import argparse
import csv
import gzip
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from producers.feed import Message, add_target, feed, program
from stream_detector.errors import DataError
from stream_detector.records import telemetry_to_json

__all__ = ["Selection", "main", "messages", "rows"]

Row = dict[str, Any]

SAMPLE_ROWS = 10_000  # rows of a CSV file that decide which columns are text
READERS = ".csv, .csv.gz, .parquet or .jsonl"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which columns are features (None: all), which are withheld, and which say whose and when."""

    columns: tuple[str, ...] | None = None
    drop: frozenset[str] = frozenset()
    entity: str | None = None
    time: str | None = None

    def features(self, row: Row) -> Row:
        """The features of a row. Raises `DataError` when a selected column is not there."""
        try:
            chosen = {name: row[name] for name in self.columns} if self.columns is not None else row
        except KeyError as error:
            raise DataError(f"column {error.args[0]!r} is not in the file; it has {', '.join(row)}") from None
        withheld = self.drop | {name for name in (self.entity, self.time) if name}
        return {name: value for name, value in chosen.items() if name not in withheld}


def rows(path: Path, header: Sequence[str] | None = None, text: Collection[str] = ()) -> Iterator[Row]:
    """The rows of a CSV, Parquet or JSON-lines file, one at a time, None where a value is missing.

    `header` names the columns of a file without a header line, which is then CSV whatever its name; columns in `text`, and those
    with anything but numbers in their first 10,000 rows, stay text. Raises `DataError`.
    """
    name = path.name.removesuffix(".gz")
    try:
        if header or name.endswith(".csv"):
            yield from _typed(_csv(path, header), text)
        elif name.endswith((".jsonl", ".ndjson")):
            yield from _json_lines(path)
        elif name.endswith(".parquet"):
            yield from _parquet(path)
        else:
            raise DataError(f"{path}: cannot read {path.suffix or 'a file without suffix'!r}; give {READERS}")
    except (OSError, EOFError) as error:
        raise DataError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); check the path"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); convert it first") from None


def messages(table: Iterable[Row], selection: Selection) -> Iterator[Message]:
    """Key and value of each row's record; the key is its entity, so that one entity keeps its order.

    A row that is a telemetry record already, with an object `features`, keeps its id, time and entity.
    """
    for number, row in enumerate(table):
        if isinstance(inner := row.get("features"), dict):
            entity, time, event_id = row.get("entity"), row.get("time"), row.get("id", number)
        else:
            entity, time, event_id, inner = _cell(row, selection.entity), _cell(row, selection.time), number, row
        key = None if entity is None else str(entity)
        try:
            value = telemetry_to_json(str(event_id), time, key, selection.features(inner))
        except TypeError as error:
            raise DataError(f"row {number}: cannot be written as JSON ({error}); mend it, or drop the column") from None
        yield None if key is None else key.encode(), value


def _cell(row: Row, column: str | None) -> Any:
    if column is not None and column not in row:
        raise DataError(f"column {column!r} is not in the file; it has {', '.join(row)}")
    return None if column is None else row[column]


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _csv(path: Path, header: Sequence[str] | None) -> Iterator[Row]:
    with _open(path) as file:
        reader = csv.reader(file)
        names = list(header) if header else next(reader, [])
        if len(set(names)) < len(names):
            raise DataError(f"{path}: a column name comes twice; name the columns with --header")
        try:
            for cells in reader:
                if len(cells) != len(names):
                    raise DataError(f"{path}: line {reader.line_num} has {len(cells)} cells, expected {len(names)}")
                yield dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise DataError(f"{path}: line {reader.line_num} is not CSV ({error})") from None


def _typed(table: Iterator[Row], text: Collection[str]) -> Iterator[Row]:
    """Rows of cells as rows of values; a number column's odd cell stays text and is the detector's to reject."""
    sample = list(islice(table, SAMPLE_ROWS))
    names = list(sample[0]) if sample else []
    textual = {name for name in names if name in text or any(isinstance(_value(row[name]), str) for row in sample)}
    for row in chain(sample, table):
        yield {name: (cell or None) if name in textual else _value(cell) for name, cell in row.items()}


def _value(cell: str) -> float | str | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def _json_lines(path: Path) -> Iterator[Row]:
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}: line {number} is not JSON ({error})") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is a JSON {type(row).__name__}, expected an object")
            yield row


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415, optional
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow; pip install 'stream-detector[training]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield {name: _plain(value) for name, value in row.items()}
    except ArrowException as error:
        raise DataError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from None


def _plain(value: Any) -> Any:
    """A Parquet value as JSON's: numbers and text as they are, all else as the nearest of these."""
    if isinstance(value, bool | Decimal):
        return float(value)
    if value is None or isinstance(value, int | float | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return program(lambda: _run(_parser().parse_args(argv)))


def _run(arguments: argparse.Namespace) -> None:
    selection = Selection(
        columns=tuple(arguments.columns) if arguments.columns else None,
        drop=frozenset(arguments.drop),
        entity=arguments.entity,
        time=arguments.time,
    )
    table = rows(arguments.file, arguments.header, arguments.text)
    feed(messages(islice(table, arguments.limit), selection), arguments, total=arguments.limit)


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m producers.replay", description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", type=Path, help=READERS)
    parser.add_argument("--columns", type=_names, default=[], metavar="A,B", help="features (default: all columns)")
    parser.add_argument("--drop", type=_names, default=[], metavar="A,B", help="columns to withhold, such as the label")
    parser.add_argument("--text", type=_names, default=[], metavar="A,B", help="CSV columns of numbers to keep as text")
    parser.add_argument("--header", type=_names, metavar="A,B", help="column names of a CSV file without a header line")
    parser.add_argument("--entity", help="column that says whose record it is; also the record's key")
    parser.add_argument("--time", help="column with the event time, RFC 3339 or epoch milliseconds")
    parser.add_argument("--limit", type=int, help="rows to send (default: all)")
    add_target(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
