"""The page of the architecture says what is so: one function an answer, and the imports that there are."""

import ast
import re
from collections import defaultdict

from pages import ROOT, text_of

ENGINE = ROOT / "stream_detector"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
MEMBER = re.compile(r"`[\w/]+\.py`: `[\w.]+`")
TOP = "the root"


def table(page, heading):
    """The cells of the rows of the first table below a heading of a page."""
    below = text_of(page).split(f"## {heading}\n", 1)[1]
    rows = re.findall(r"^\|.*\|$", below.split("\n## ", 1)[0], re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def unanswered(page):
    """The questions whose answer is not one file and one function."""
    return [question for question, answer in table(page, "Where do I find") if not MEMBER.fullmatch(answer)]


def forbidden(page, found):
    """The imports between folders that the page does not allow, by the folder that has them."""
    told = {row[0].strip("`"): set(re.findall(r"`([^`]+)`", row[2])) for row in table(page, "Folders and borders")}
    return {here: more for here, others in found.items() if (more := others - told.get(here, set()) - {TOP})}


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
    assert len(table(PAGE, "Where do I find")) > 10
    assert unanswered(PAGE) == []


def test_the_table_of_folders_allows_every_import():
    """A folder imports only what its row of the table names, and each folder has a row."""
    assert {row[0].strip("`") for row in table(PAGE, "Folders and borders")} == set(imported())
    assert forbidden(PAGE, imported()) == {}


def test_two_answers_and_a_forbidden_import_are_found():
    """The checks themselves: an answer of two functions, and an import that no row names."""
    page = (
        "## Where do I find\n| a | b |\n|---|---|\n| one? | `a/b.py`: `c` |\n| two? | `a/b.py`: `c`, `a/b.py`: `d` |\n"
        "## Folders and borders\n| a | b | c |\n|---|---|---|\n| `kafka` | transport | `config` |\n"
    )

    assert unanswered(page) == ["two?"]
    assert forbidden(page, {"kafka": {"config", "worker", TOP}}) == {"kafka": {"worker"}}
