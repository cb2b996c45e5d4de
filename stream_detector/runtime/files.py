"""Writes files in one step: whole or not at all, and on the disk before anybody sees them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EINVAL
from pathlib import Path

from stream_detector.errors import WriteError

__all__ = ["check_target", "replacing", "write_file"]


def check_target(path: Path) -> None:
    """Raises `WriteError` when `write_file` could not write there: call it before the work."""
    if path.is_dir():
        raise WriteError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise WriteError(f"{path}: is a device or a pipe, which is not replaced; give the name of a file")
    if not path.parent.is_dir():
        raise WriteError(f"{path}: there is no folder {path.parent}; make it, or give another place")
    with _named(path):
        _partial(path).unlink()


def write_file(path: Path, data: bytes) -> None:
    """Writes `data` to `path`. Raises `WriteError`; an older file stays until the new one is whole."""
    with replacing(path) as partial:
        partial.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path`, to be written under its own name; it takes the place of `path` when the block ends.

    A link is replaced, never followed. Raises `WriteError` when the file cannot be written.
    """
    with _named(path):
        partial = _partial(path)
        try:
            yield partial
            _settle(partial)
            partial.replace(path)
            _settle(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror or error}); free it, or give another place"
        ) from None


def _partial(path: Path) -> Path:
    """An empty file of a name that nobody else has, with the rights of any new file."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-"[:100], suffix=".partial", dir=path.parent)
    with suppress(OSError):  # some file systems have no rights
        os.fchmod(handle, 0o666 & ~_umask())
    os.close(handle)
    return Path(name)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _settle(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != EINVAL:  # a file system that cannot sync folders
            raise
    finally:
        os.close(handle)
