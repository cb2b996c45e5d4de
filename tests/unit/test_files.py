"""Files that are there whole, or not at all."""

import os
import resource
import signal
from pathlib import Path

import pytest

from stream_detector.errors import WriteError
from stream_detector.runtime import files
from stream_detector.runtime.files import check_target, replacing, write_file


def test_a_file_is_replaced_whole(tmp_path):
    """The new content takes the place of the old, with the rights of any new file, and nothing is left beside it."""
    path = tmp_path / "model"
    path.write_bytes(b"old")
    write_file(path, b"new")
    (tmp_path / "plain").write_bytes(b"")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model", "plain"]


def test_it_is_on_the_disk_before_it_is_seen(tmp_path, monkeypatch):
    """The content is synced, then the name is moved, then the folder is synced: a power failure leaves old or new."""
    order = []
    replace, fsync = type(tmp_path).replace, os.fsync

    def moved(self, target):
        order.append("rename")
        return replace(self, target)

    def synced(handle):
        order.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    monkeypatch.setattr(type(tmp_path), "replace", moved)
    monkeypatch.setattr(files.os, "fsync", synced)
    write_file(tmp_path / "model", b"new")
    assert order[0].startswith(".model-")
    assert order[1:] == ["rename", tmp_path.name]


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError, OSError(28, "No space left on device")])
def test_what_is_interrupted_leaves_the_old_file_and_nothing_else(tmp_path, end):
    """Ctrl-C, an error, a full disk."""
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def write():
        with replacing(path) as partial:
            partial.write_bytes(b"ne")
            raise end

    with pytest.raises((KeyboardInterrupt, RuntimeError, WriteError)):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line(tmp_path):
    """The system refuses the last bytes of a file: the error names it, the old one stays, nothing else is left."""
    path = tmp_path / "model"
    path.write_bytes(b"old")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(WriteError, match="model: cannot be written"):
            write_file(path, bytes(5_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_never_followed(tmp_path):
    """Whoever can plant a link in the folder must not have a file elsewhere overwritten."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("model", ".model.partial"):
        (folder / name).symlink_to(outside)
    write_file(folder / "model", b"new")
    assert outside.read_bytes() == b"theirs"
    assert (folder / "model").read_bytes() == b"new"
    assert not (folder / "model").is_symlink()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/dev/null", "is a device or a pipe"),
        (".", "is a folder"),
        ("absent/model", "there is no folder"),
        ("pipe", "is a device or a pipe"),
        ("file/model", "there is no folder"),
    ],
)
def test_a_place_that_takes_no_file_is_told_before_the_work(tmp_path, name, says):
    """A device is never replaced, and a folder that is not there is not made."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteError, match=says):
        check_target(tmp_path / name)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "pipe"]


def test_a_good_place_is_left_as_it_was(tmp_path):
    """Asking changes nothing: neither a file that is there, nor one that is not."""
    (tmp_path / "old").write_bytes(b"old")
    check_target(tmp_path / "old")
    check_target(tmp_path / "new")
    assert [each.name for each in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"
