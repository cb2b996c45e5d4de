"""What `make package` builds holds what its reader expects, and no more."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "configs", "consumers", "demo", "docker", "docs", "producers", "scripts", "tests", ".ci")
FILES = ("CHANGELOG.md", "Dockerfile", "LICENSE", "Makefile", "README.md", "constraints.txt", "docker-compose.yml")
MADE = shutil.ignore_patterns("__pycache__", "*.egg-info", ".git", ".venv", ".*_cache", ".hypothesis", "build", "dist")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The folder of a wheel and a source archive, built offline from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("checkout") / "copy"
    shutil.copytree(ROOT, copy, ignore=MADE, ignore_dangling_symlinks=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", copy]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return copy / "dist"


def one(packages, pattern):
    (found,) = packages.glob(pattern)
    return found


def test_the_wheel_installs_one_package(packages):
    """A wheel puts the engine and its type marker into an environment, and no package of a general name."""
    names = zipfile.ZipFile(one(packages, "*.whl")).namelist()
    tops = {name.split("/")[0] for name in names}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"stream_detector"}
    assert "stream_detector/py.typed" in names
    assert not [name for name in names if name.endswith((".pyc", ".yaml"))]


def test_the_source_archive_is_a_whole_checkout(packages):
    """Whoever unpacks it has configuration, pages, programs, benchmarks and tests as the repository has them."""
    with tarfile.open(one(packages, "*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert set(FILES) <= names
    for folder in FOLDERS:
        ours = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert {path.relative_to(ROOT).as_posix() for path in ours} <= names


def test_an_installed_package_says_where_the_demo_is(packages, tmp_path):
    """Without a checkout, `demo` is one line and exit code 2."""
    zipfile.ZipFile(one(packages, "*.whl")).extractall(tmp_path)
    others = Path(pytest.__file__).parents[1]
    ran = subprocess.run(  # -S: what links the checkout into the environment is not read
        [sys.executable, "-S", "-m", "stream_detector", "demo"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{others}", "COLUMNS": "400"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "checkout" in ran.stderr


def test_the_version_is_the_changelogs_newest(packages):
    """The archives are named by the newest version that the changelog has."""
    newest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert newest
    assert f"-{newest[1]}-" in one(packages, "*.whl").name
