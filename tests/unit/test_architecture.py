"""The page of the architecture says what is so: one function an answer, and the imports that there are."""

import ast
import re
from collections import defaultdict

from pages import ROOT, text_of

ENGINE = ROOT / "stream_detector"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
MEMBER = re.compile(r"`[\w/]+\.py`: `[\w.]+`")
TOP = "the root"


def table(heading):
    """The cells of the rows of the first table below a heading."""
    below = text_of(PAGE).split(f"## {heading}\n", 1)[1]
    rows = re.findall(r"^\|.*\|$", below.split("\n## ", 1)[0], re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def folder(path):
    """The folder of a module, relative to the engine."""
    return path.parent.relative_to(ENGINE).as_posix().replace(".", TOP)


def imported():
    """The folders whose modules each folder imports."""
    found = defaultdict(set)
    for path in ENGINE.rglob("*.py"):
        found[folder(path)] |= {other for name in names(path) if (other := home(name)) != folder(path)}
    return {here: others for here, others in found.items() if here != TOP}


def names(path):
    """Dotted names of the engine that a module imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stream_detector"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def home(name):
    """The folder of the module that a dotted name belongs to."""
    path = ROOT
    for part in name.split("."):
        path /= part
        if path.with_suffix(".py").is_file():
            return folder(path.with_suffix(".py"))
        if not path.is_dir():
            break
    return folder(path if path.is_dir() else path.parent / "__init__.py")


def test_each_question_has_one_answer():
    """Where something is found is one file and one function, which `test_named_code` looks up."""
    rows = table("Where do I find")

    assert len(rows) > 10
    assert [question for question, answer in rows if not MEMBER.fullmatch(answer)] == []


def test_the_table_of_folders_allows_every_import():
    """A folder imports only what its row of the table names, and each folder has a row."""
    told = {row[0].strip("`"): set(re.findall(r"`([^`]+)`", row[2])) for row in table("Folders and borders")}
    found = imported()

    assert told.keys() == found.keys()
    assert {here: more for here, others in found.items() if (more := others - told[here] - {TOP})} == {}
