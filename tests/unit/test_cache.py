"""Where compiled code is kept, and that scoring works where nothing can be written."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stream_detector.scoring import cache


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


def test_the_folder_is_settled_before_numba_is_loaded():
    """Numba reads the variable once, when it is loaded; importing anything of scoring settles it first."""
    code = "import sys, stream_detector.scoring.cache; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
