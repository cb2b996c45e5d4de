"""Where compiled code is kept, and that scoring works where nothing can be written."""

import ast
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stream_detector.errors import ConfigError
from stream_detector.scoring.compiled import cache


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """An environment in which neither the package nor the home can be written to; folders are refused by name."""
    refused = {cache.BESIDE, tmp_path / "home" / ".cache" / "numba"}
    honest = cache._writable
    monkeypatch.setattr(cache, "_writable", lambda folder: folder not in refused and honest(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    return refused


def test_a_folder_that_can_be_written_is_left_as_it_is(tmp_path, monkeypatch):
    """Whoever names a folder, or has one, keeps it."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    cache.settle()
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "mine")


def test_code_that_was_compiled_from_other_sources_is_not_used(tmp_path, monkeypatch):
    """Numba does not see a change in a file that a function only calls into."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache, "SOURCES", (tmp_path,))
    (tmp_path / "called.py").write_text("SLOPE = 0.1")
    cache.settle()
    before = os.environ.pop("NUMBA_CACHE_DIR")
    (tmp_path / "called.py").write_text("SLOPE = 0.2")
    cache.settle()
    assert os.environ.pop("NUMBA_CACHE_DIR") != before
    (tmp_path / "called.py").write_text("SLOPE = 0.1")
    cache.settle()
    assert os.environ["NUMBA_CACHE_DIR"] == before


def test_every_module_with_a_number_that_is_compiled_in_counts_as_a_source():
    """A constant that compiled code takes from another module is part of it, so that module's edition counts."""
    compiled_folder = cache.SOURCES[0]
    taken = {
        f"{node.module.removeprefix('stream_detector.').replace('.', '/')}.py"
        for path in compiled_folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and any(alias.name.isupper() for alias in node.names)
    }
    outside = {name for name in taken if not name.startswith("scoring/compiled/")}
    assert outside == set(cache.CONSTANTS)
    assert all(source.exists() for source in cache.SOURCES)


def test_where_nothing_can_be_written_a_private_folder_is_made(bare):
    """Compiled code is trusted like the source, so nobody else may write to the folder."""
    cache.settle()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.getuid()


def test_what_an_image_brings_is_taken_along(bare, tmp_path, monkeypatch):
    """A folder that can only be read is copied to one that can be written."""
    (tmp_path / "image" / "inner").mkdir(parents=True)
    (tmp_path / "image" / "inner" / "kernel.nbi").write_text("compiled")
    bare.add(tmp_path / "image")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "image"))
    cache.settle()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert folder != tmp_path / "image"
    assert (folder / "inner" / "kernel.nbi").read_text() == "compiled"


def test_what_is_compiled_beside_read_only_code_is_used(bare, tmp_path, monkeypatch):
    """Code installed for all, compiled once by who installed it: nobody else has to compile it again."""
    monkeypatch.setattr(cache, "BESIDE", tmp_path / "code")
    bare.add(tmp_path / "code")
    finished = tmp_path / "code" / f"compiled-{cache._edition()}" / "inner"
    finished.mkdir(parents=True)
    (finished / "kernel.nbi").write_text("compiled")
    cache.settle()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert tmp_path / "code" not in folder.parents
    assert (folder / "inner" / "kernel.nbi").read_text() == "compiled"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_it_is_copied_to_the_users_folder_once(bare, tmp_path, monkeypatch):
    """Where the home can be written to, the copy stays there; what the user has compiled since is not replaced."""
    monkeypatch.setattr(cache, "BESIDE", tmp_path / "code")
    bare.clear()
    bare.add(tmp_path / "code")
    name = f"compiled-{cache._edition()}"
    (tmp_path / "code" / name).mkdir(parents=True)
    (tmp_path / "code" / name / "kernel.nbi").write_text("compiled")
    cache.settle()
    kept = tmp_path / "home" / ".cache" / "numba" / name
    assert os.environ.pop("NUMBA_CACHE_DIR") == str(kept)
    (kept / "kernel.nbi").write_text("compiled since")
    cache.settle()
    assert (kept / "kernel.nbi").read_text() == "compiled since"
    assert [each.name for each in kept.parent.iterdir()] == [name]


def test_who_has_no_home_and_no_name_can_score(bare, monkeypatch):
    """A container's user may have neither HOME nor an entry in passwd."""

    def unknown(_uid):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    cache.settle()
    assert Path(os.environ["NUMBA_CACHE_DIR"]).is_dir()


def test_where_nothing_at_all_can_be_written_one_line_says_so(bare, monkeypatch):
    """Not even a temporary folder: the error names what to set."""

    def refused(**_):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(cache.tempfile, "mkdtemp", refused)
    with pytest.raises(ConfigError, match="NUMBA_CACHE_DIR or TMPDIR"):
        cache.settle()


def test_the_folder_is_settled_before_numba_is_loaded():
    """Numba reads the variable once, when it is loaded; importing anything of scoring settles it first."""
    code = "import sys, stream_detector.scoring.compiled.cache; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
