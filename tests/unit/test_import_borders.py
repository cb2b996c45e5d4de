"""The borders of the design, held on the syntax tree of every source file."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("stream_detector", "consumers", "producers", "demo")
FORBIDDEN_EVERYWHERE = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "yaml.load", "yaml.full_load", "yaml.unsafe_load"}
WITHOUT_TORCH = (
    "stream_detector/records/",
    "stream_detector/tables/",
    "stream_detector/config/",
    "stream_detector/incidents/",
    "stream_detector/kafka/",
    "stream_detector/worker/output/",
)
PROGRAMS = ("consumers", "producers")
DEMO_COMMAND = "stream_detector/cli/run_command.py"  # which starts the demo where it is at hand
FOR_PROGRAMS = ("records", "tables", "config", "runtime", "errors", "kafka")
CLIENTS = ("kafka", "worker", "registry", "audit")  # the folders that may hold a Kafka client
TRANSPORT_KNOWS_NOTHING_OF = ("model", "detector", "scoring", "gan", "fitting", "worker", "registry", "audit")
RECORD_ROAD = ("records", "features", "normaliser", "detector", "scoring", "model", "gan")


def imports(tree):
    """Dotted names that a module imports, wherever it does; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here; a relative one would escape this test"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree):
    """Dotted names that are called, with the keyword names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}


def crossings(path, name):
    """What the import of `name` crosses in the file at `path`: each border beside whether it is crossed."""
    top, _, rest = name.partition(".")
    ours = rest.split(".")[0] if top == "stream_detector" else ""
    home = path.removeprefix("stream_detector/")
    return {
        f"confluent_kafka belongs in {', '.join(CLIENTS)}": top == "confluent_kafka"
        and not home.startswith(tuple(f"{client}/" for client in CLIENTS)),
        f"transport knows nothing of {name}": home.startswith("kafka/") and ours in TRANSPORT_KNOWS_NOTHING_OF,
        "no torch here": top == "torch" and path.startswith(WITHOUT_TORCH + PROGRAMS),
        "thresholds are scoring/threshold's; river's quantile is what its tests compare with": top == "river"
        and "Quantile" in name,
        "orjson on the record road belongs in records": top == "orjson" and home.startswith(RECORD_ROAD[1:]),
        f"the engine knows nothing of {name}": top in (*PROGRAMS, "demo")
        and path.startswith("stream_detector/")
        and path != DEMO_COMMAND,
        f"programs may not import {name}": path.startswith(PROGRAMS) and ours and ours not in FOR_PROGRAMS,
        f"{top} runs or hides code": top in FORBIDDEN_EVERYWHERE,
    }


def violations(path, source):
    """What crosses a border in `source`, were it the file at `path` (relative to the checkout, with slashes)."""
    tree = ast.parse(source)
    found = [f"{path}: {why}" for name in imports(tree) for why, crossed in crossings(path, name).items() if crossed]
    for name, keywords in calls(tree):
        if name in FORBIDDEN_CALLS or keywords.get("allow_pickle") == "True":
            found.append(f"{path}: {name} runs code from data")
    return found


def sources():
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_every_file_keeps_the_borders():
    """No file of the engine or of the programs crosses a border."""
    assert len(sources()) > 10
    found = [line for path in sources() for line in violations(path.relative_to(ROOT).as_posix(), path.read_text())]

    assert found == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("stream_detector/detector.py", "import confluent_kafka"),
        ("stream_detector/cli/run_command.py", "def f():\n    from confluent_kafka.admin import AdminClient"),
        ("producers/replay.py", "from confluent_kafka import Producer"),
        ("stream_detector/records/columns.py", "import torch"),
        ("stream_detector/config/whole.py", "from torch import nn"),
        ("stream_detector/worker/output/transaction.py", "import torch.cuda"),
        ("stream_detector/kafka/reads.py", "from stream_detector.model import DetectorModel"),
        ("stream_detector/kafka/topics.py", "from stream_detector.worker import loop"),
        ("consumers/tail.py", "import torch"),
        ("stream_detector/detector.py", "from river.stats import RollingQuantile"),
        ("stream_detector/detector.py", "from river import stats\nimport river.stats.Quantile"),
        ("stream_detector/features.py", "import orjson"),
        ("consumers/tail.py", "from stream_detector.model import DetectorModel"),
        ("producers/replay.py", "from stream_detector import fit"),
        ("stream_detector/model.py", "from consumers.tail import alerts"),
        ("stream_detector/cli/fit_command.py", "def f():\n    from demo.run_demo import run_demo"),
        ("stream_detector/model.py", "import pickle"),
        ("stream_detector/model.py", "import torch\ntorch.load(f, weights_only=True)"),
        ("stream_detector/config/loading.py", "import yaml\nyaml.load(text, Loader=yaml.Loader)"),
        ("stream_detector/gan/fit.py", "import numpy as np\nnp.load(f, allow_pickle=True)"),
        ("stream_detector/gan/fit.py", "eval(text)"),
    ],
)
def test_planted_violation_is_found(path, source):
    """Each border, crossed, is reported."""
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("stream_detector/worker/loop.py", "from confluent_kafka import Consumer"),
        ("stream_detector/model.py", "import torch\nmodel.eval()"),
        ("stream_detector/records/alerts.py", "import orjson"),
        (
            "consumers/tail.py",
            "from stream_detector.kafka.clients import reader\nfrom stream_detector.records import Alert",
        ),
        ("stream_detector/config/loading.py", "import yaml\nyaml.safe_load(text)"),
    ],
)
def test_allowed_import_is_left_alone(path, source):
    """What the design allows is not reported."""
    assert violations(path, source) == []
