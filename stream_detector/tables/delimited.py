"""CSV and its kin: delimiter, decimal comma and header line are found in the text, the cells read by pyarrow."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
from pyarrow import compute
from pyarrow import csv as arrow_csv

from stream_detector.errors import DataError
from stream_detector.records.arrow_rows import rows_of

__all__ = ["Delimited", "read_delimited"]

DELIMITERS = ("\t", ";", "|", ",")
SAMPLE = 65_536  # characters that tell the dialect
SAMPLE_ROWS = 200
BATCH = 10_000  # lines made into mappings at once
POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)?,\d+([eE][+-]?\d+)?$")
ARROW_NUMBER = rf"^{POINT.pattern}"
THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


@dataclass(frozen=True, slots=True)
class Delimited:
    """A `pyarrow.Table`, and remarks on how the text was taken.

    A column is float64 where all its filled cells are numbers, text otherwise; an empty cell is null.
    """

    table: Any
    remarks: tuple[str, ...]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping a line, None where a cell is empty."""
        return chain.from_iterable(map(rows_of, self.table.to_batches(max_chunksize=BATCH)))


@dataclass(frozen=True, slots=True)
class Dialect:
    """The way a text is written; `names` has one for each column, `header` says whether the first line held them."""

    delimiter: str
    decimal_comma: bool
    header: bool
    names: tuple[str, ...]


def read_delimited(data: bytes, where: str, header: Sequence[str] | None, text: Collection[str]) -> Delimited:
    """The table in `data`; `header` names the columns of a text without a header line, columns in `text` stay text.

    Raises `DataError` that begins with `where` and names line, column or cell.
    """
    data = _utf8(data, where)
    sample = _sample(data)
    if not sample.strip():
        raise DataError(f"{where}: holds no rows; expected a header line and rows below it")
    blanks = _has_blanks(sample)
    if blanks:
        data = b"\n".join(b"\t".join(line.split()) for line in data.splitlines())
        sample = _sample(data)
    dialect = _dialect(sample, header, where)
    table = _table(data, dialect, where)
    if not table.num_rows:
        raise DataError(f"{where}: holds no rows; expected a header line and rows below it")
    named = [(place, name) for place, name in enumerate(dialect.names) if name]
    if not named:
        raise DataError(f"{where}: line 1 names no column; write a name above each")
    columns = {
        name: _cells(table.column(place), as_text=name in text, decimal_comma=dialect.decimal_comma)
        for place, name in named
    }
    remarks = ("columns are separated by blanks",) if blanks else ()
    return Delimited(pa.table(columns), (*remarks, *_remarks(dialect, header)))


def _utf8(data: bytes, where: str) -> bytes:
    """The text in UTF-8 without a byte order mark."""
    mark = next((mark for mark in MARKS if data.startswith(mark)), None)
    try:
        if mark:
            return data.decode(MARKS[mark]).encode()
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{where}: is not UTF-8 text (byte 0x{data[error.start]:02x} in line {line}); convert it first, for example "
            "with iconv"
        ) from None
    return data


def _sample(data: bytes) -> str:
    sample = data[:SAMPLE].decode(errors="ignore")
    return sample if len(data) <= SAMPLE else sample[: sample.rfind("\n") + 1] or sample


def _dialect(sample: str, header: Sequence[str] | None, where: str) -> Dialect:
    """The delimiter that cuts the lines alike and leaves the most numbers."""
    lines = sample.splitlines(keepends=True)[: SAMPLE_ROWS + 1]
    cut = {delimiter: _cut(lines, delimiter) for delimiter in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda each: _evenness(cut[each], comma=each != ","))
    rows = cut[delimiter]
    width = len(rows[0])
    decimal_comma = delimiter != "," and _decimal_comma(rows)
    bare = header is None and _is_data(rows, decimal_comma=decimal_comma)
    if header is not None or bare:
        names = tuple(header) if header is not None else tuple(f"x{place}" for place in range(width))
        return Dialect(delimiter, decimal_comma, header=False, names=names)
    names = tuple(name.strip() for name in rows[0])
    _require_different(names, where)
    return Dialect(delimiter, decimal_comma, header=True, names=names)


def _has_blanks(sample: str) -> bool:
    """Tells whether columns of numbers are separated by blanks alone: no delimiter cuts the lines, and nothing is quoted."""
    if '"' in sample:
        return False
    lines = [line for line in sample.splitlines()[: SAMPLE_ROWS + 1] if line.strip()]
    if any(_evenness(_cut(lines, delimiter), comma=delimiter != ",")[0] for delimiter in DELIMITERS):
        return False
    several, numbers, _ = _evenness([line.split() for line in lines], comma=True)
    return several and numbers > 0


def _cut(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if row] or [[""]]
    except csv.Error:
        return [[""]]


def _evenness(rows: Sequence[Sequence[str]], *, comma: bool) -> tuple[bool, float, int]:
    """Several columns, as many in most lines as in the first; then how many cells are numbers; then how many columns."""
    width = len(rows[0])
    alike = sum(len(row) == width for row in rows)
    cells = [cell.strip() for row in rows[1:] or rows for cell in row]
    numbers = sum(bool(POINT.match(cell) or (comma and COMMA.match(cell))) for cell in cells)
    return width > 1 and 2 * alike > len(rows), numbers / max(len(cells), 1), width


def _decimal_comma(rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell.strip() for row in rows for cell in row]
    commas, points = (
        sum(bool(form.match(cell)) and sign in cell for cell in cells) for form, sign in ((COMMA, ","), (POINT, "."))
    )
    return commas > points


def _is_data(rows: Sequence[Sequence[str]], *, decimal_comma: bool) -> bool:
    """Tells whether the first line is a record: all numbers, or some, beside text that comes again further down."""
    form = COMMA if decimal_comma else POINT
    filled = [(place, cell.strip()) for place, cell in enumerate(rows[0]) if cell.strip()]
    texts = [(place, cell) for place, cell in filled if not (form.match(cell) or POINT.match(cell))]
    if len(texts) == len(filled):
        return False
    return not texts or any(
        len(row) > place and row[place].strip() == cell for place, cell in texts for row in rows[1:]
    )


def _require_different(names: Sequence[str], where: str) -> None:
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            places = ", ".join(str(place) for place, other in enumerate(names, 1) if other == name)
            raise DataError(f"{where}: line 1 names {name!r} for columns {places}; give each a name of its own")


def _table(data: bytes, dialect: Dialect, where: str) -> Any:
    """All cells as text, columns by their number."""
    numbers = [str(place) for place in range(len(dialect.names))]
    ragged: list[Any] = []

    def refuse(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        return arrow_csv.read_csv(
            pa.BufferReader(data),
            arrow_csv.ReadOptions(use_threads=False, column_names=numbers, skip_rows_after_names=int(dialect.header)),
            arrow_csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=refuse),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(numbers, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
                quoted_strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        if ragged:
            row = ragged[0]
            raise DataError(
                f"{where}: line {row.number} has {row.actual_columns} cells, expected {row.expected_columns}: {row.text!r:.80}"
            ) from None
        raise DataError(f"{where}: is not CSV ({str(error).splitlines()[0]})") from None


def _cells(column: Any, *, as_text: bool, decimal_comma: bool) -> Any:
    """Numbers where all filled cells are, text otherwise; null where a cell is empty."""
    text = compute.utf8_trim_whitespace(column)
    text = compute.if_else(compute.equal(text, ""), None, text)
    if as_text:
        return text
    if decimal_comma:
        ours = compute.match_substring_regex(text, f"^{COMMA.pattern}")
        plain = compute.replace_substring(compute.replace_substring(text, ".", ""), ",", ".")
    else:
        ours = compute.match_substring_regex(text, THOUSANDS)
        plain = compute.replace_substring(text, ",", "")
    text = compute.if_else(ours, plain, text)
    if not compute.all(compute.match_substring_regex(text, ARROW_NUMBER)).as_py():
        return text
    return compute.utf8_ltrim(text, "+").cast(pa.float64())


def _remarks(dialect: Dialect, header: Sequence[str] | None) -> Iterator[str]:
    if dialect.decimal_comma:
        yield "numbers have decimal commas"
    if not dialect.header and header is None:
        yield f"no header line: the columns are called {dialect.names[0]} to {dialect.names[-1]}"
    if unnamed := [str(place) for place, name in enumerate(dialect.names, 1) if not name]:
        yield f"without a name and left out: column {', '.join(unnamed)}"
