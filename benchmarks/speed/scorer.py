"""b. The scorer alone: records a second by features and batch, and where the time goes."""

import cProfile
import os
import pstats
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.speed import data
from benchmarks.speed.part import Measured
from stream_detector.config import RecordConfig, ThresholdConfig
from stream_detector.detector import limits
from stream_detector.model import DetectorModel
from stream_detector.records import Decoder
from stream_detector.scoring.threshold import RollingThreshold

__all__ = ["run"]

BATCHES = (1, 64, 1_024, 8_192)
SECONDS = 1.5  # a measurement
INSIDE = {  # what the scorer is made of, by the functions that do it
    "encoder and generator": ("inversion.py", "start"),
    "search": ("inversion.py", "refine"),
    "discriminator": ("discrimination.py", "judge"),
    "nearness": ("memory.py", "nearest"),
}


def run(quick: bool) -> Measured:
    """Records a second on one core (of processor time) and on all, and microseconds a record by step at 16 features."""
    widths = (4, 16) if quick else data.SCHEMAS
    lines, figures = [], {}
    for features in widths:
        model = data.model(features)
        for batch in BATCHES:
            X = data.matrix(features, max(BATCHES))[:batch]
            one = _rate(lambda m=model, X=X: m.score(X), batch, time.process_time, threads=1)
            every = _rate(lambda m=model, X=X: m.score(X), batch, time.perf_counter, threads=os.cpu_count() or 1)
            lines.append(
                (f"{features} features, batches of {batch:,}", f"{one:,.0f}", f"{every:,.0f}", f"{1e6 / one:.1f}")
            )
            figures |= {f"per_core_{features}_{batch}": one} if features == 16 else {}
    torch.set_num_threads(1)
    for name, microseconds in _steps(data.model(16)).items():
        lines.append((f"16 features, {name}", "", "", f"{microseconds:.2f}"))
        figures[f"us_{name.replace(' ', '_')}"] = microseconds
    note = (
        "`DetectorModel.score` on float32 matrices: a second of one core's processor time, and a second of wall time with as "
        "many threads as cores. Below, what a record costs in the worker at batches of 8,192, step by step; the parts of "
        "`score` are by a profile of it. Explanation is per *explained* record."
    )
    return Measured("Scorer alone", note, ("", "one core/s", "all cores/s", "µs a record"), tuple(lines), figures)


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
        "calibration": lambda: model.calibration(raw, (1.0, 1.0)),
        "threshold": lambda: threshold.flag(scores),
    }
    found = {name: 1e6 / _rate(call, len(X), time.process_time, 1) for name, call in whole.items()}
    found |= {name: share * found["score"] for name, share in _inside(lambda: model.score(X)).items()}
    found["explanation"] = 1e6 / _rate(lambda: model.explain(X[:1_024]), 1_024, time.process_time, 1)
    return found


def _inside(call: Callable[[], object]) -> dict[str, float]:
    """Shares of a call's time by the functions of `INSIDE`, those that there are."""
    with cProfile.Profile() as profile:
        call()
    stats = pstats.Stats(profile)
    times = {(key[0].rsplit("/", 1)[-1], key[2]): value[3] for key, value in stats.stats.items()}  # type: ignore[attr-defined]
    return {name: times[place] / stats.total_tt for name, place in INSIDE.items() if place in times}  # type: ignore[attr-defined]
