"""d. Peers doing the same job: the same topic, alerts out, offsets committed with them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyod.models.anogan import AnoGAN
from pyod.models.iforest import IForest

from benchmarks.speed import data
from benchmarks.speed.part import Measured
from benchmarks.speed.streams import Pace, ceiling, configure, fill, settled, work
from stream_detector.config import Config
from stream_detector.errors import DataError
from stream_detector.kafka.embedded import EmbeddedBroker

__all__ = ["run"]

FEATURES = 16
RECORDS = 300_000
ENVIRONMENT = Path("build/quix")
SCRIPT = Path(__file__).with_name("quix_peer.py")
QUIX_RECORDS = 20_000
PYOD_RECORDS = 100_000
FITTED_ON = 1_000  # AnoGAN's own fitting searches the latent of each
RATE = 0.001

Matrix = NDArray[np.float32]


def run(quick: bool) -> Measured:
    """Records a second of each, and how many times as fast we are."""
    share = 5 if quick else 1
    with EmbeddedBroker() as broker:
        config = configure(broker.bootstrap_servers)
        fill(config, data.json_values(FEATURES), RECORDS // share)
        settled(config)
        ours, _ = work(config, data.model(FEATURES))
        found = {
            "quixstreams + river HalfSpaceTrees": _quix(config, QUIX_RECORDS // share),
            "confluent-kafka + PyOD AnoGAN": _plain(config, _anogan(), PYOD_RECORDS // share),
            "confluent-kafka + PyOD IForest": _plain(config, _iforest(), PYOD_RECORDS // share),
        }
    lines = [("ours", f"{ours.wall:,.0f}", f"{ours.cpu:,.0f}", "", "")]
    figures = {}
    for name, pace in found.items():
        times, by_cpu = ours.wall / pace.wall, ours.cpu / pace.cpu
        lines.append((name, f"{pace.wall:,.0f}", f"{pace.cpu:,.0f}", f"{times:.1f}", f"{by_cpu:.1f}"))
        figures[f"over_{name.rsplit(' ', 1)[1].lower()}"] = times
    note = (
        f"{FEATURES} features, JSON, 4 partitions. All decode, score, hold the score against a quantile at a rate of {RATE}, "
        "send alerts and commit offsets in transactions. Half-space trees (25 of height 8) and their quantile filter score and "
        "learn record by record; PyOD's models score whole batches, and AnoGAN does so without searching a latent. Peers "
        "explain nothing, and their thresholds depend on the batches."
    )
    head = ("", "records/s", "per CPU s", "we are times as fast", "by CPU")
    return Measured("Peers", note, head, tuple(lines), figures)


def _plain(config: Config, score: Callable[[Matrix], Matrix], records: int) -> Pace:
    """The bare loop with a scorer in it; the threshold is the batch's own quantile."""

    def flag(matrix: Matrix) -> list[int]:
        scores = score(matrix)
        return np.flatnonzero(scores > np.quantile(scores, 1 - RATE)).tolist()  # type: ignore[no-any-return]

    return ceiling(config, data.model(FEATURES).schema, flag, records)


def _iforest() -> Callable[[Matrix], Matrix]:
    forest = IForest(random_state=0).fit(data.matrix(FEATURES, data.FITTED_ON, seed=2))
    score: Callable[[Matrix], Matrix] = forest.decision_function
    return score


def _anogan() -> Callable[[Matrix], Matrix]:
    gan = AnoGAN(epochs=2, epochs_query=2, verbose=0).fit(data.matrix(FEATURES, FITTED_ON, seed=2))
    return lambda matrix: gan.decision_function(pd.DataFrame(matrix).to_numpy())


def _quix(config: Config, records: int) -> Pace:
    """In an environment of its own, because quixstreams wants another confluent-kafka than ours."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "quixstreams>=3.28", "river>=0.22"], check=True)
    group = f"quix-{time.monotonic_ns()}"
    arguments = [config.kafka.bootstrap_servers, group, config.topics.telemetry[0], config.topics.alerts, str(records)]
    done = subprocess.run([str(python), str(SCRIPT), *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"the quixstreams peer failed: {done.stderr[-500:]}")
    return Pace(**json.loads(done.stdout.splitlines()[-1]))
