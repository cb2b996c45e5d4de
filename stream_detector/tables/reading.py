"""Opens a table of any format: the bytes decide the format, the file's name does not.

CSV and its kin (any delimiter, decimal commas, with or without a header line), JSON lines or one JSON array,
Parquet, Arrow and Feather, NumPy's .npz and .npy; compressed by gzip, bzip2, xz or zstd, or not at all.
"""

import bz2
import gzip
import io
import lzma
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from json import loads as loads_with_nan
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import feather, parquet

from stream_detector.errors import DataError
from stream_detector.records.arrow_rows import rows_of
from stream_detector.tables.delimited import read_delimited

__all__ = ["FORMATS", "STANDARD", "Row", "Table", "open_table", "read_table"]

Row = dict[str, Any]

STANDARD = Path("-")
"""Standard input, or output."""
FORMATS = ".csv, .tsv, .jsonl, .json, .parquet, .feather, .npz or .npy, also with .gz; - is standard input"
TEXTS = frozenset({"", ".csv", ".tsv", ".tab", ".txt", ".data", ".dat", ".psv", ".log", ".json", ".jsonl", ".ndjson"})
COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda file: pa.CompressedInputStream(file, "zstd"),
}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of named values, None where one is missing; they may be read once only.

    `remarks` say what the file left open and how it was taken. `matrix` is float64 [row, column] where the
    columns have no names; they are then called x0, x1, …. `labels` are a NumPy file's own array of them.
    """

    source: str
    rows: Iterable[Row]
    unit: str = "row"
    first: int = 1
    remarks: tuple[str, ...] = ()
    matrix: NDArray[np.float64] | None = None
    labels: NDArray[Any] | None = None

    def place(self, position: int) -> str:
        """The name of the row at a position, counted from 0."""
        return f"{self.unit} {self.first + position}"


def open_table(path: Path, text: Collection[str] = (), header: Sequence[str] | None = None) -> Table:
    """The table in a file, or on standard input when `path` is `-`.

    Columns in `text` are text though they hold numbers; `header` names the columns of a CSV file without a
    header line. Raises `DataError`, also while the rows are read: file, line or row, what is wrong.
    """
    name = "standard input" if path == STANDARD else str(path)
    with _faults(name), ExitStack() as opened:
        file = _plain(opened, path)
        head = file.peek(16)[:16]
        if head.startswith((b"PK\x03\x04", b"\x93NUMPY")):
            return _numpy(file, path, name, text)
        if head.startswith((b"PAR1", b"ARROW1", b"FEA1")):
            return Table(name, _guarded(_arrow(file, head, name, text), name, opened.pop_all()))
        _require_text(file, path, name)
        if header is None and _first_sign(file) in {b"{", b"["}:
            return Table(name, _guarded(_json(file, name, text), name, opened.pop_all()), "line")
        delimited = read_delimited(file.read(), name, header, text)
        return Table(name, delimited.rows(), remarks=delimited.remarks)


def read_table(path: Path) -> list[Row] | NDArray[np.float64]:
    """All rows of a file, for `fit` and `score`: mappings, or a float64 matrix [row, column] where columns have no names.

    Raises `DataError` as `open_table` does.
    """
    table = open_table(path)
    return list(table.rows) if table.matrix is None else table.matrix


@contextmanager
def _faults(name: str) -> Iterator[None]:
    """Turns what reading may raise into the one line that a person needs."""
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError) as error:
        what = getattr(error, "strerror", None) or error
        raise DataError(f"{name}: cannot be read ({what}); check the path, and that the file is whole") from None
    except pa.ArrowException as error:
        raise DataError(f"{name}: cannot be read ({str(error).splitlines()[0]}); the file is damaged") from None


def _guarded(rows: Iterator[Row], name: str, opened: ExitStack) -> Iterator[Row]:
    with opened, _faults(name):
        yield from rows


def _plain(opened: ExitStack, path: Path) -> io.BufferedReader:
    """The file, decompressed while it is read; what was opened is closed by `opened`."""
    raw: Any = sys.stdin.buffer if path == STANDARD else opened.enter_context(path.open("rb"))
    file = raw if hasattr(raw, "peek") else io.BufferedReader(raw)
    head = file.peek(8)[:8]
    for magic, opener in COMPRESSED.items():
        if head.startswith(magic):
            return io.BufferedReader(opened.enter_context(opener(file)))
    return file


def _require_text(file: io.BufferedReader, path: Path, name: str) -> None:
    suffix = _suffix(path)
    head = file.peek(1024)[:1024]
    binary = b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if suffix in {".npz", ".npy", ".parquet", ".feather", ".arrow"}:
        raise DataError(f"{name}: not a {suffix} file, its first bytes are {head[:8]!r}; is it whole?")
    if binary or (suffix not in TEXTS and not head.strip()):
        raise DataError(f"{name}: cannot read {suffix or 'a file without suffix'!r}; give {FORMATS}")


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    while suffixes and suffixes[-1] in {".gz", ".bz2", ".xz", ".zst"}:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _first_sign(file: io.BufferedReader) -> bytes:
    return file.peek(1024)[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]


def _json(file: io.BufferedReader, name: str, text: Collection[str]) -> Iterator[Row]:
    """Objects one a line, or all of them in one array, or a single one over several lines."""
    for number, line in enumerate(file, 1):
        bare = line.removeprefix(b"\xef\xbb\xbf").strip()
        if not bare:
            continue
        try:
            document = _parsed(bare)
        except ValueError as error:
            if number == 1 and (whole := _whole(bare + b"\n" + file.read())) is not None:
                yield from _objects(whole, name, text)
                return
            raise DataError(f"{name}: line {number} is not JSON ({error})") from None
        if number == 1 and isinstance(document, list):
            yield from _objects(document, name, text)
            continue
        yield _object(document, f"{name}: line {number}", text)


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return loads_with_nan(line)  # NaN, as Python's own writer has it, is a missing value


def _whole(data: bytes) -> list[Any] | None:
    """The documents of a text that is one JSON value; None when it is not."""
    try:
        document = _parsed(data)
    except (JSONDecodeError, UnicodeDecodeError):
        return None
    return document if isinstance(document, list) else [document]


def _objects(documents: Sequence[Any], name: str, text: Collection[str]) -> Iterator[Row]:
    for number, document in enumerate(documents, 1):
        yield _object(document, f"{name}: record {number}", text)


def _object(document: Any, where: str, text: Collection[str]) -> Row:
    if not isinstance(document, dict):
        raise DataError(f"{where} is a JSON {type(document).__name__}, expected an object")
    return _texts(document, text)


def _arrow(file: io.BufferedReader, head: bytes, name: str, text: Collection[str]) -> Iterator[Row]:
    """Rows of a Parquet file a group at a time, of an Arrow or Feather file all at once."""
    whole = file if file.seekable() else pa.BufferReader(file.read())
    if head.startswith(b"PAR1"):
        opened = parquet.ParquetFile(whole)
        _require_names(opened.schema_arrow.names, name)
        batches = opened.iter_batches()
    else:
        table = feather.read_table(whole)
        _require_names(table.schema.names, name)
        batches = table.to_batches()
    for batch in batches:
        for row in rows_of(batch):
            yield _texts(row, text)


def _require_names(names: Sequence[str], where: str) -> None:
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{where}: has two columns called {doubles[0]!r}; give each a name of its own")


def _texts(row: Row, text: Collection[str]) -> Row:
    """Writes out whole numbers in the columns that are text."""
    for name in text:
        value = row.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            row[name] = str(value)
    return row


def _numpy(file: io.BufferedReader, path: Path, name: str, text: Collection[str]) -> Table:
    """`X` [row, column] of an .npz file with its `names` and `y` or `label`, or an .npy file's matrix."""
    if _suffix(path) in {".xlsx", ".ods"}:
        raise DataError(f"{name}: is a spreadsheet; save the sheet as CSV")
    try:
        loaded: Any = np.load(io.BytesIO(file.read()), allow_pickle=False)
        arrays = {key: loaded[key] for key in loaded.files} if hasattr(loaded, "files") else {"X": loaded}
        matrix = np.asarray(arrays["X"], dtype=np.float64)
    except KeyError:
        raise DataError(f"{name}: holds no array 'X'; save one with numpy.savez(path, X=matrix)") from None
    except (ValueError, TypeError, EOFError, BadZipFile) as error:
        raise DataError(f"{name}: 'X' is no matrix of numbers ({error})") from None
    if matrix.ndim != 2:
        raise DataError(f"{name}: 'X' has {matrix.ndim} dimensions; expected [row, column]")
    names = [str(each) for each in arrays["names"]] if "names" in arrays else None
    if names is not None and len(names) != matrix.shape[1]:
        raise DataError(f"{name}: 'names' holds {len(names)} names for {matrix.shape[1]} columns of 'X'")
    _require_names(names or [], name)
    called = names or [f"x{place}" for place in range(matrix.shape[1])]
    rows = (_texts(dict(zip(called, map(_present, row), strict=True)), text) for row in matrix.tolist())
    labels = next((arrays[key] for key in ("label", "y") if key in arrays), None)
    return Table(name, rows, matrix=None if names else matrix, labels=labels)


def _present(value: float) -> float | None:
    return None if value != value else value
