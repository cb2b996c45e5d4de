"""The house: sizes, folders, floors and names of the engine, held on the syntax tree of every source file."""

import ast
import re
import subprocess
from collections import Counter
from functools import cache
from itertools import chain
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "stream_detector"
LONGEST, SHORT, SHARE = 350, 40, 0.1  # lines of a module; at most this share of the modules is shorter than SHORT
MODULES = 20  # in a folder
ARROWS = 2  # imports among the modules of a folder, a module
UNNAMED = ("__init__", "__main__")
ELLIPTIC = re.compile(r"(The same|Of|With|All of it)\b")
FLOORS = (  # from the ground up: a folder of the package, or a module beside them, imports from its own floor and below
    {"errors", "values", "foreign", "features"},
    {"gan", "golden"},
    {"config", "runtime", "absence", "normaliser", "scoring"},
    {"records", "artifact", "context"},
    {"tables", "health", "incidents"},
    {"model"},
    {"tracking", "scaling", "scoring_pool"},
    {"detector", "drift", "table_scoring", "contexts"},
    {"fitting"},
    {"__init__", "kafka"},
    {"registry"},
    {"worker"},
    {"audit"},
    {"retraining"},
    {"cli"},
    {"__main__"},
)


def house(root=ROOT):
    """Every module of the engine by its path below the package."""
    return {
        PurePosixPath(path.relative_to(root / PACKAGE).as_posix()): path.read_text()
        for path in sorted((root / PACKAGE).rglob("*.py"))
    }


@cache
def tree_of(source):
    return ast.parse(source)


def name_of(path):
    parts = (PACKAGE, *path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(modules):
    """The modules that each module imports from, wherever it does."""
    paths = {name_of(path): path for path in modules}
    found = {}
    for path, source in modules.items():
        nodes = [node for node in ast.walk(tree_of(source)) if isinstance(node, ast.ImportFrom) and node.module]
        names = [(f"{node.module}.{alias.name}", node.module) for node in nodes for alias in node.names]
        found[path] = {paths.get(name, paths.get(module)) for name, module in names} - {None, path}
    return found


def sizes(modules):
    """Modules that are too long, and that too many are short."""
    lines = {path: len(source.splitlines()) for path, source in modules.items() if path.stem not in UNNAMED}
    long = [f"{path}: {count} lines, more than {LONGEST}" for path, count in lines.items() if count > LONGEST]
    short = [str(path) for path, count in lines.items() if count < SHORT]
    many = [f"{len(short)} of {len(lines)} modules are under {SHORT} lines: {short}"]
    return long + many * (len(short) > SHARE * len(lines))


def folders(modules):
    """Folders with too many modules, or with too many imports among them."""
    found, known = [], imports(modules)
    for folder in sorted({path.parent for path in modules}):
        rooms = [path for path in modules if path.parent == folder]
        arrows = sum(target.parent == folder and target.stem != "__init__" for room in rooms for target in known[room])
        if len(rooms) > MODULES:
            found.append(f"{folder}: {len(rooms)} modules, more than {MODULES}")
        if arrows > ARROWS * len(rooms):
            found.append(f"{folder}: {arrows} imports among {len(rooms)} modules")
    return found


def circles(modules):
    """Modules that import each other, a line a circle."""
    left = imports(modules)
    while free := {path for path, targets in left.items() if not targets & left.keys()}:
        left = {path: targets for path, targets in left.items() if path not in free}
    while free := left.keys() - set(chain.from_iterable(left.values())):
        left = {path: targets for path, targets in left.items() if path not in free}
    return [f"a circle of imports among {', '.join(map(str, sorted(left)))}"] if left else []


def climbs(modules):
    """Imports from a higher floor, and what has no floor."""
    floor = {unit: height for height, units in enumerate(FLOORS) for unit in units}
    found = [f"{unit} has no floor" for unit in sorted({unit_of(path) for path in modules} - floor.keys())]
    for path, targets in imports(modules).items():
        higher = [str(to) for to in targets if floor.get(unit_of(to), 0) > floor.get(unit_of(path), len(FLOORS))]
        found += [f"{path} imports upwards from {target}" for target in sorted(higher)]
    return found


def unit_of(path):
    return path.parts[0].removesuffix(".py")


def modules_twice(modules):
    """Module names that occur twice."""
    return twice((path.stem, path) for path in modules if path.stem not in UNNAMED)


def classes_twice(modules):
    """Class names that occur twice, private ones too."""
    named = ((node.name, path) for path, node in nodes_of(modules) if isinstance(node, ast.ClassDef))
    return twice((name.lstrip("_"), path) for name, path in named)


def nodes_of(modules):
    return ((path, node) for path, source in modules.items() for node in ast.walk(tree_of(source)))


def twice(named):
    places = {}
    for name, path in named:
        places.setdefault(name, []).append(str(path))
    return [f"{name} is the name of {' and of '.join(paths)}" for name, paths in places.items() if len(paths) > 1]


def docstrings(modules):
    """Docstrings that cannot be read alone."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = ((path, ast.get_docstring(node) or "") for path, node in nodes_of(modules) if isinstance(node, documented))
    return [f"{path}: {text.splitlines()[0]}" for path, text in texts if ELLIPTIC.match(text)]


CHECKS = {
    "sizes": sizes,
    "folders": folders,
    "circles": circles,
    "floors": climbs,
    "modules": modules_twice,
    "classes": classes_twice,
    "docstrings": docstrings,
}


def planted(**sources):
    """A house of the given modules; `a__b` is the module b in the folder a."""
    return {PurePosixPath(name.replace("__", "/") + ".py"): source for name, source in sources.items()}


def crowded(count, arrows):
    """A folder of so many modules, each of which imports from the next ones."""
    return planted(
        **{
            f"gan__m{at}": "".join(f"from {PACKAGE}.gan import m{(at + 1 + to) % count}\n" for to in range(arrows))
            for at in range(count)
        }
    )


@pytest.mark.parametrize("check", CHECKS)
def test_the_engine_keeps_its_house(check):
    """No module, folder, import, name or docstring of the engine breaks the rule."""
    assert CHECKS[check](house()) == []


@pytest.mark.parametrize(
    ("check", "modules"),
    [
        ("sizes", planted(model="pass\n" * (LONGEST + 1))),
        ("sizes", planted(model="pass\n", detector="pass\n" * SHORT)),
        ("folders", crowded(MODULES + 1, 0)),
        ("folders", crowded(5, 3)),
        (
            "circles",
            planted(
                model=f"from {PACKAGE} import detector",
                detector=f"def f():\n    from {PACKAGE}.gan.memory import g",
                gan__memory=f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {PACKAGE}.model import m",
            ),
        ),
        ("floors", planted(gan__memory=f"from {PACKAGE}.model import DetectorModel", model="")),
        ("floors", planted(kafka__clients=f"from {PACKAGE}.registry import store", registry__store="")),
        ("floors", planted(attic__chest="")),
        ("modules", planted(kafka__window="", scoring__window="")),
        ("classes", planted(model="class Batch: ...", detector="def f():\n    class _Batch: ...")),
        ("docstrings", planted(model='"""Of a number."""')),
        ("docstrings", planted(model='def f():\n    """The same, for compiled code."""')),
        ("docstrings", planted(model='class A:\n    """With one more."""')),
    ],
)
def test_a_planted_fault_is_found(check, modules):
    """Each rule, broken, is reported."""
    assert CHECKS[check](modules)


@pytest.mark.parametrize("check", CHECKS)
def test_a_house_in_order_is_left_alone(check):
    """A module below another, with names and docstrings of their own, breaks no rule."""
    pair = planted(
        model=f'"""Without a word of this: `With`."""\nfrom {PACKAGE}.gan.memory import Memory\n' + "pass\n" * SHORT,
        gan__memory='class Memory:\n    """The samest of them."""\n' + "    pass\n" * SHORT,
    )

    assert CHECKS[check](pair) == []


def test_files():
    """Every test file of the checkout."""
    return sorted((ROOT / "tests").rglob("test_*.py"))


test_files.__test__ = False


def shared(files):
    """Test files that import another one, and base names that occur twice; by path and source."""
    stems = Counter(Path(path).stem for path in files)
    found = [f"{stem}.py is there {count} times" for stem, count in stems.items() if count > 1]
    for path, source in files.items():
        for node in ast.walk(tree_of(source)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            parts = {part for name in names for part in name.split(".")}
            found += [f"{path} imports {part}" for part in sorted(parts & stems.keys() - {Path(path).stem})]
    return found


def test_no_test_file_imports_another():
    """What tests share lies in helper modules, and each test file has a name of its own."""
    files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in test_files()}

    assert len(files) > 50
    assert shared(files) == []


@pytest.mark.parametrize(
    "files",
    [
        {"tests/unit/test_a.py": "from test_b import f", "tests/unit/test_b.py": ""},
        {"tests/unit/test_a.py": "def f():\n    import tests.unit.test_b", "tests/unit/test_b.py": ""},
        {"tests/unit/test_a.py": "", "tests/kafka/test_a.py": ""},
    ],
)
def test_a_test_file_that_imports_another_is_found(files):
    """An import of a test file from another, or a name given twice, is reported."""
    assert shared(files)


def targets(makefile):
    """Targets of a Makefile that stand for something to do, and those that `make help` does not show."""
    made = re.findall(r"^([a-z0-9-]+):(?!=)(.*)$", makefile, re.MULTILINE)
    phony = set(" ".join(re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)).split())
    shown = {name for name, rest in made if "## " in rest}
    return {name for name, _ in made}, phony, shown


SILENT = {"python"}  # prints the interpreter for `setup`


def test_every_make_target_is_shown_and_phony():
    """Whoever calls `make` sees all there is to do, and no file of that name hides it."""
    made, phony, shown = targets((ROOT / "Makefile").read_text())
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert made - shown == SILENT
    assert made == phony
    assert {line.split()[1] for line in said.splitlines()} == shown


def test_a_hidden_make_target_is_found():
    """A target without a help text, or one that is not phony, is told from the others."""
    made, phony, shown = targets(".PHONY: a\na: ## said\nb:\n\ttrue\nVARIABLE := c\n")

    assert (made, phony, shown) == ({"a", "b"}, {"a"}, {"a"})
