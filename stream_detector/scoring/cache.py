"""Where compiled code is kept between runs.

Numba keeps it beside the source, or in the user's cache folder. Where it can write to neither, as in a
container, it would refuse to compile at all. What it keeps is trusted like the code itself, so a
folder that another user could have made is not used.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["settle"]

VARIABLE = "NUMBA_CACHE_DIR"
BESIDE = Path(__file__).parent / "__pycache__"


def settle() -> None:
    """Names a folder that can be written to, with what is compiled already; before numba is loaded."""
    given = os.environ.get(VARIABLE)
    if given and _writable(Path(given)):
        return
    if not given and (_writable(BESIDE) or _writable(_users())):
        return
    folder = Path(tempfile.mkdtemp(prefix="stream-detector-compiled-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if given and Path(given).is_dir():
        shutil.copytree(given, folder, dirs_exist_ok=True)
    os.environ[VARIABLE] = str(folder)


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
