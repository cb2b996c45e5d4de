"""b. The scorer alone: records a second by features and batch, and where the time goes."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.speed import data
from benchmarks.speed.part import Measured
from stream_detector.config import RecordConfig, ThresholdConfig
from stream_detector.detector import limits
from stream_detector.model import DetectorModel
from stream_detector.records import Decoder
from stream_detector.scoring.compiled import kernel
from stream_detector.scoring.compiled.layout import TILE, Inputs, Workspace
from stream_detector.scoring.compiled.nearest import find_nearest
from stream_detector.scoring.threshold import RollingThreshold

__all__ = ["run"]

BATCHES = (1, 64, 1_024, 8_192)
SECONDS = 1.5  # a measurement
CORES = os.cpu_count() or 1
POOL = ThreadPoolExecutor(CORES)


def run(quick: bool) -> Measured:
    """Records a second on one core (of processor time) and on all, and microseconds a record by step at 16 features."""
    widths = (4, 16) if quick else data.SCHEMAS
    lines, figures = [], {}
    for features in widths:
        model = data.model(features)
        for batch in BATCHES:
            X = data.matrix(features, max(BATCHES))[:batch]
            one = _rate(lambda m=model, X=X: m.score(X), batch, time.process_time, threads=1)
            every = _rate(lambda m=model, X=X: _by_all(m, X), batch * CORES, time.perf_counter, threads=1)
            lines.append(
                (f"{features} features, batches of {batch:,}", f"{one:,.0f}", f"{every:,.0f}", f"{1e6 / one:.1f}")
            )
            figures |= {f"per_core_{features}_{batch}": one} if features == 16 else {}
    torch.set_num_threads(1)
    for name, microseconds in _steps(data.model(16)).items():
        lines.append((f"16 features, {name}", "", "", f"{microseconds:.2f}"))
        figures[f"us_{name.replace(' ', '_')}"] = microseconds
    note = (
        "`DetectorModel.score` on float32 matrices: a second of one core's processor time, and a second of wall time with a "
        "thread a core, each with its own batches. Below, what a record costs in the worker at batches of 8,192, step by step; the kernel's "
        "stages are timed one by one. Explanation is per *explained* record."
    )
    return Measured("Scorer alone", note, ("", "one core/s", "all cores/s", "µs a record"), tuple(lines), figures)


def _by_all(model: DetectorModel, X: NDArray[np.float32]) -> None:
    """Every core scores the batch, in a thread of its own."""
    for done in [POOL.submit(model.score, X) for _ in range(CORES)]:
        done.result()


def _rate(call: Callable[[], object], records: int, clock: Callable[[], float], threads: int) -> float:
    """The best pace of several, records a second."""
    torch.set_num_threads(threads)
    call()
    best, until = np.inf, time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        start = clock()
        call()
        best = min(best, clock() - start)
    return records / best


def _steps(model: DetectorModel) -> dict[str, float]:
    values = data.json_values(16, max(BATCHES))
    decoder, threshold = Decoder(RecordConfig()), RollingThreshold(limits(model, ThresholdConfig()))
    X = decoder.decode(values, model.schema).features
    raw, scores = model.scorer.raw(X), model.score(X).anomaly.tolist()
    threshold.learn(scores * 2)
    whole = {
        "decoding": lambda: decoder.decode(values, model.schema),
        "score": lambda: model.score(X),
        "normalising": lambda: model.scorer.normaliser(X),
        "calibration": lambda: model.calibration(raw, model.scorer.panel),
        "threshold": lambda: threshold.flag(scores),
    }
    found = {name: 1e6 / _rate(call, len(X), time.process_time, 1) for name, call in whole.items()}
    found |= _stages(model, X)
    found["explanation"] = 1e6 / _rate(lambda: model.explain(X[:1_024]), 1_024, time.process_time, 1)
    return found


def _stages(model: DetectorModel, X: NDArray[np.float32]) -> dict[str, float]:
    """Microseconds a record of the kernel's stages, tile after tile, for a processor learns by heart what it is shown
    again and again; and the search's share of all records.
    """
    scorer = model.scorer
    normalised, own, screen, rows = scorer.normaliser(X), np.full(len(X), -1), scorer.screen.start, TILE
    autoencoder, kept, discriminators = scorer.kernel.autoencoder, scorer.kernel.kept, scorer.kernel.discriminators
    inputs = Inputs.of(normalised, own)
    widths = normalised.views.shape[2], normalised.context.shape[1]
    space = Workspace.of(autoencoder, kept, discriminators, *widths)
    starts, nearness, distances, verdicts = np.zeros((4, rows))
    stages: dict[str, Callable[[int], object]] = {  # each needs what the ones before it have left in the workspace
        "laying out": lambda first: kernel.show_records(inputs, 0, first, space, rows),
        "nearest records": lambda first: find_nearest(kept, 0, own, first, space, rows),
        "encoder and generator": lambda first: kernel.start_search(
            autoencoder, kept, inputs, 0, first, space, starts, rows
        ),
        "evidence": lambda first: kernel.show_evidence(discriminators, kept, inputs, 0, first, space, nearness, rows),
        "discriminator": lambda _first: kernel.judge(discriminators, 0, 1, space, distances, verdicts, rows),
    }
    tiles = range(0, len(X) - rows + 1, rows)
    found = dict.fromkeys(stages, np.inf)
    _through(stages, tiles[:1])  # compiles them
    until = time.perf_counter() + SECONDS * len(stages)
    while time.perf_counter() < until:
        for name, seconds in _through(stages, tiles).items():
            found[name] = min(found[name], 1e6 * seconds / (len(tiles) * rows))
    searching, plain = (
        _rate(lambda s=search: scorer.kernel(inputs, screen, s), len(X), time.process_time, 1)
        for search in (scorer.search, scorer.search.model_copy(update={"steps": 0}))
    )
    return found | {"search": max(0.0, 1e6 / searching - 1e6 / plain)}


def _through(stages: Mapping[str, Callable[[int], object]], tiles: Sequence[int]) -> dict[str, float]:
    """Seconds of each stage over all tiles."""
    taken = dict.fromkeys(stages, 0.0)
    for first in tiles:
        for name, stage in stages.items():
            start = time.perf_counter()
            stage(first)
            taken[name] += time.perf_counter() - start
    return taken
