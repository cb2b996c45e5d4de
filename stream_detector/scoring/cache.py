"""Where compiled code is kept between runs.

It is kept beside the source, or in the user's cache folder. Where neither can be written to, as in a
container, numba would refuse to compile at all. What it keeps is trusted like the code itself, so a
folder that another user could have made is not used. Numba asks only whether a function's own file has
changed, not those of the functions that it has drawn in, so every edition of the sources has a folder.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["settle"]

VARIABLE = "NUMBA_CACHE_DIR"
BESIDE = Path(__file__).parent / "__pycache__"
SOURCES = (Path(__file__).parent, Path(__file__).parents[1] / "gan")


def settle() -> None:
    """Names a folder that can be written to, with what is compiled already; before numba is loaded."""
    given = os.environ.get(VARIABLE)
    if given and _writable(Path(given)):
        return
    home = None if given else next((folder for folder in (BESIDE, _users()) if _writable(folder)), None)
    if home:
        os.environ[VARIABLE] = str(home / f"compiled-{_edition()}")
        return
    folder = Path(tempfile.mkdtemp(prefix="stream-detector-compiled-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if given and Path(given).is_dir():
        shutil.copytree(given, folder, dirs_exist_ok=True)
    os.environ[VARIABLE] = str(folder)


def _edition() -> str:
    """Names the sources that compiled code may be drawn from."""
    files = sorted(file for folder in SOURCES for file in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _users() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"


def _writable(folder: Path) -> bool:
    """Whether files can be made there, the folder itself included."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
