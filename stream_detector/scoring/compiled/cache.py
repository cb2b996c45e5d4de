"""The folder that compiled code is kept in between runs, and a notice that it is being compiled.

It is kept beside the source, or in the user's cache folder. Where neither can be written to, as in a
container, numba would refuse to compile at all: then a private folder serves, with a copy of what is
compiled already. What is kept is trusted like the code itself, so a folder that another user could have
made is not used. Numba asks only whether a function's own file has changed, not those of the functions
that it has drawn in, so every edition of the sources has a folder.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_detector.errors import ConfigError

__all__ = ["announce", "settle"]

VARIABLE = "NUMBA_CACHE_DIR"
BESIDE = Path(__file__).parent / "__pycache__"
PACKAGE = Path(__file__).parents[2]
CONSTANTS = (
    "gan/evidence.py",
    "gan/memory.py",
    "gan/networks.py",
    "scoring/discrimination.py",
    "scoring/expectation.py",
    "scoring/inversion.py",
)
SOURCES = (  # what compiled code is drawn from
    Path(__file__).parent,
    PACKAGE / "context",
    *(PACKAGE / name for name in CONSTANTS),
)
NOTICE = "Compiling the scoring kernel; once on this machine, one to two minutes."


def settle() -> None:
    """Names a folder that can be written to, with what is compiled already; before numba is loaded.

    Raises `ConfigError` when nothing can be written anywhere.
    """
    given = os.environ.get(VARIABLE)
    if given and _writable(Path(given)):
        return
    readable: list[Path] = [Path(given)] if given else []
    folder = None
    for home in () if given else (BESIDE, *_users()):
        edition = home / f"compiled-{_edition()}"
        if _writable(home):
            folder = edition
            break
        readable.append(edition)
    folder = folder or _private()
    finished = next((edition for edition in readable if _compiled(edition)), None)
    if finished and not _compiled(folder):
        _take(finished, folder)
    os.environ[VARIABLE] = str(folder)


def announce(tell: Callable[[str], None]) -> None:
    """Calls `tell` with a notice when the kernel is compiled for the first time from here on; not when it is at hand.

    A minute of silence looks like a fault.
    """
    from numba.core import event  # noqa: PLC0415 - `settle` must come before

    class Once(event.Listener):
        told = False

        def on_start(self, event: Any) -> None:
            kernel = "stream_detector.scoring.compiled.kernel" in str(event.data["dispatcher"].py_func.__module__)
            if kernel and not self.told:
                self.told = True
                tell(NOTICE)

        def on_end(self, event: Any) -> None:
            """Nothing to say."""

    event.register("numba:compile", Once())  # type: ignore[no-untyped-call]


def _edition() -> str:
    """Names the sources that compiled code may be drawn from."""
    files = sorted(file for source in SOURCES for file in (source.rglob("*.py") if source.is_dir() else (source,)))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _users() -> list[Path]:
    """The user's own cache folder. A user without HOME and without an entry in passwd has none."""
    try:
        return [Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"]
    except RuntimeError:
        return []


def _private() -> Path:
    """A folder of this process alone, gone when it ends."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="stream-detector-compiled-"))
    except OSError as error:
        raise ConfigError(
            f"scoring is compiled, and no folder for that can be written ({error.strerror or error}); "
            f"name one by {VARIABLE} or TMPDIR"
        ) from None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _compiled(folder: Path) -> bool:
    """Tells whether numba has kept something there."""
    return next(folder.rglob("*.nbi"), None) is not None


def _take(finished: Path, folder: Path) -> None:
    """Copies what is compiled in one step, since another process may do so, too; without it, it is compiled again."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            shutil.copytree(finished, partial, dirs_exist_ok=True)
            partial.chmod(0o700)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError:
        return


def _writable(folder: Path) -> bool:
    """Tells whether files can be made there, the folder itself included."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
