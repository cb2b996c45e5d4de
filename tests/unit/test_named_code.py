"""What the pages name is there: files, functions, modules, make targets, commands, options, keys and metrics."""

import ast
import re
from functools import cache
from typing import get_args

import pytest
from pages import HIDDEN, PAGES, ROOT, code, name
from pydantic import BaseModel
from typer.main import get_command

from stream_detector.cli.app import app
from stream_detector.config import Config
from stream_detector.worker.metrics import WorkerMetrics
from stream_detector.worker.summary import ContextSummary, RunSummary

NOW = [page for page in PAGES if page.name != "CHANGELOG.md"]  # that one names what was there then
HOME = {entry.name for entry in ROOT.iterdir()} - HIDDEN
PATH = re.compile(r"(?<![\w/.~-])[\w.*-]+(?:/[\w.*-]+)+|\b\w+\.py\b")
TARGET = re.compile(r"\bmake ([a-z][a-z0-9-]*)")
MODULE = re.compile(r"\bpython -m ([\w.]+)")
IMPORTED = re.compile(r"\bfrom (stream_detector[\w.]*) import (\w+)|(?<![\w/.-])(stream_detector(?:\.\w+)+)")
COMMAND = re.compile(r"(?:.*\bstream-detector )?([a-z]+)(?![\w-])(?: ([a-z]+)(?![\w-]))?(.*)")
KEY = re.compile(r"([a-z_]+(?:\.[a-z_]+)+)(?:: .*)?")
METRIC = re.compile(r"stream_detector_[a-z_]+")
MEMBER = re.compile(r"`([\w/]+\.py)`: `([\w.]+)`")
SUFFIXES = ("safetensors", "yaml", "json", "jsonl", "html", "png", "parquet", "csv", "npz", "md", "log", "artifact")


def missing(markdown):
    """What the code of a page names and the checkout does not have."""
    found = [fault for text in code(markdown) for check in CHECKS for fault in check(text)]
    return found + [f"{path}: {member}" for path, member in MEMBER.findall(markdown) if not _defined(path, member)]


def paths(text):
    """Paths are relative to the checkout; a star stands for any name."""
    for path in PATH.findall(text):
        ours = path.split("/")[0] in HOME or path.endswith(".py")
        if ours and "://" not in text and not any(ROOT.glob(path.rstrip("/"))):
            yield path


def targets(text):
    """Targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    yield from (
        f"make {target}" for target in TARGET.findall(text) if not re.search(rf"^{target}:", makefile, re.MULTILINE)
    )


def modules(text):
    """Modules and what is imported from them."""
    for module in MODULE.findall(text):
        if module.split(".")[0] in HOME and not _module(module):
            yield module
    for module, imported, dotted in IMPORTED.findall(text):
        if not _named(dotted or f"{module}.{imported}"):
            yield dotted or f"{module}.{imported}"


def commands(text):
    """Commands of `stream-detector`, their subcommands and options."""
    for line in re.split(r"\||&&|;", text):
        match = COMMAND.fullmatch(line.strip())
        if match and ("stream-detector " in line or (match[1] in COMMANDS and " --" in line)):
            yield from _command(*match.groups(default=""))


def keys(text):
    """Keys of the configuration."""
    match = KEY.fullmatch(text)
    if match and match[1].split(".")[0] in Config.model_fields and not match[1].endswith(SUFFIXES):
        section, attribute = match[1].split(".", 1)
        if not _key(Config, match[1].split(".")) and not (
            section == "model" and _defined(MODEL, f"DetectorModel.{attribute.split('.')[0]}")
        ):
            yield match[1]


def metrics(text):
    """Metrics of a worker."""
    for metric in METRIC.findall(text):
        if re.sub("_(total|info)$", "", metric) not in METRICS:
            yield metric


CHECKS = (paths, targets, modules, commands, keys, metrics)
COMMANDS = get_command(app).commands
SHOWN = WorkerMetrics()
SHOWN.observe(RunSummary(context=ContextSummary(0, 0, 0, {})))
METRICS = {family.name for family in SHOWN.collect()}
MODEL = "stream_detector/model.py"


def _command(command, second, rest):
    known = COMMANDS.get(command)
    if known is None:
        yield f"stream-detector {command}"
    elif hasattr(known, "commands"):
        if second and second not in known.commands:
            yield f"stream-detector {command} {second}"
        known = known.commands.get(second)
    for option in re.findall(r"(?<![\w-])--[a-z-]+", rest):
        if known and option not in {name for one in known.params for name in (*one.opts, *one.secondary_opts)}:
            yield f"stream-detector {command} {option}"


def _key(model, parts):
    """Whether a key stands in the configuration; below a mapping all do."""
    if not parts:
        return True
    field = model.model_fields.get(parts[0])
    inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if _is_model(kind)] if field else []
    return field is not None and (not inner or any(_key(kind, parts[1:]) for kind in inner))


def _is_model(kind):
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _module(dotted):
    path = ROOT.joinpath(*dotted.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def _named(dotted):
    """Whether a dotted name is a module, or a name that a module's text holds."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if source.is_file():
            text = source.read_text(encoding="utf-8")
            return all(re.search(rf"\b{part}\b", text) for part in parts[length : length + 1])
    return False


@cache
def _defined(path, member):
    """Whether a file defines a class, function or constant, or a member of a class."""
    file = ROOT / path
    body = ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else []
    for part in member.split("."):
        found = [node for node in body if part in _names(node)]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def _names(node):
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return {getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)}


@pytest.mark.parametrize("page", NOW, ids=name)
def test_what_a_page_names_exists(page):
    """A reader who looks for a file, function, target, command, option, key or metric of a page finds it."""
    assert missing(page.read_text(encoding="utf-8")) == []


def test_every_command_stands_on_the_page_of_commands():
    """The page of commands leaves none out."""
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    inner = [name for known in COMMANDS.values() for name in getattr(known, "commands", {})]

    assert [name for name in [*COMMANDS, *inner] if not re.search(rf"`[a-z ]*\b{name}\b", page)] == []


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        ("`stream_detector/gone.py`", "stream_detector/gone.py"),
        ("`detector.py`", "detector.py"),
        ("`docs/g*.md` `docs/*.md` `~/docs/x` `results/x.parquet` `http://docs/x`", "docs/g*.md"),
        ("```sh\nstream-detector run -c configs/gone.yaml  # a comment with docs/gone.md\n```", "configs/gone.yaml"),
        ("`make gone` `make test`", "make gone"),
        ("    python -m consumers.gone", "consumers.gone"),
        (
            "```python\nfrom stream_detector.errors import Gone\nstream_detector.fit(X)\n```",
            "stream_detector.errors.Gone",
        ),
        ("`stream-detector gone` `stream-detector run -c x.yaml`", "stream-detector gone"),
        ("`stream-detector models gone` `models ls`", "stream-detector models gone"),
        ("`fit FILE --gone` `fit FILE --out MODEL` `ls --gone`", "stream-detector fit --gone"),
        (
            "`worker.gone` `worker.linger_ms: 5` `model.version` `retrain.gate.reference` `model.safetensors`",
            "worker.gone",
        ),
        ("`stream_detector_gone_total` `stream_detector_lag_records`", "stream_detector_gone_total"),
        (
            "`stream_detector/model.py`: `DetectorModel.gone` `stream_detector/model.py`: `ModelStream`",
            f"{MODEL}: DetectorModel.gone",
        ),
    ],
)
def test_what_is_not_there_is_found(planted, fault):
    """The check itself: each kind of name, planted, is reported, and what exists beside it is not."""
    assert missing(planted) == [fault]
