"""h. On a GPU: the scorer by batch, what launching costs, what copying costs, and the pipeline."""

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.speed import data
from benchmarks.speed.part import Measured
from benchmarks.speed.streams import best, ceiling, configure, fill, settled, work
from stream_detector.errors import ConfigError
from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.model import DetectorModel
from stream_detector.scoring.device import DeviceScorer

__all__ = ["measure", "run"]

FEATURES = 16
BATCHES = (1, 64, 1_024, 8_192, 65_536, 524_288)
RECORDS = 1_000_000
SECONDS = 2.0
ROUNDS = 2


def run(quick: bool) -> Measured:
    """The part on the first CUDA device; raises `ConfigError` where there is none."""
    if not torch.cuda.is_available():
        raise ConfigError(
            "no GPU: torch finds no CUDA device here (torch.cuda.is_available() is False), and part h needs one"
        )
    return measure("cuda", quick)


def measure(device: str, quick: bool) -> Measured:
    """The part on any device, so that all of it but the GPU itself can be tried without one."""
    model = data.model(FEATURES).to(device)
    rates = {batch: _rate(model, batch) for batch in BATCHES[: 4 if quick else None]}
    lines = [(f"score, batches of {batch:,}", f"{rate:,.0f}/s", f"{1e6 / rate:.3f}") for batch, rate in rates.items()]
    kernels, launched = _launches(model, 8_192)
    copied, largest = _copied(model, 8_192), max(rates)
    lines += [
        ("kernels of a batch of 8,192", f"{kernels:,}", ""),
        ("launching alone, of the batch's time", f"{launched:.0%}", ""),
        ("copying to the device and back, of the batch's time", f"{copied:.0%}", ""),
    ]
    floor, worker = _pipeline(device, model, RECORDS // 10 if quick else RECORDS)
    lines.append(("pipeline, of its ceiling", f"{worker / floor:.2f}", ""))
    figures = {"scorer_per_s": rates[largest], "at_batch": float(largest), "pipeline_ratio": worker / floor}
    figures |= {"launch_share": launched, "copy_share": copied}
    name = torch.cuda.get_device_name() if device == "cuda" else device
    note = f"{FEATURES} features on {name}; wall time, synchronised. Decoding of the next batch does not overlap scoring yet."
    return Measured("GPU", note, ("", "", "µs a record"), tuple(lines), figures)


def _rate(model: DetectorModel, batch: int) -> float:
    X = np.resize(data.matrix(FEATURES), (batch, FEATURES))
    return batch / _least(lambda: model.score(X))


def _least(call: Callable[[], object]) -> float:
    """Least seconds of a call, synchronised."""
    call()
    least, until = np.inf, time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        start = time.perf_counter()
        call()
        _synchronise()
        least = min(least, time.perf_counter() - start)
    return float(least)


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _launches(model: DetectorModel, batch: int) -> tuple[int, float]:
    """Kernels of a batch, and the share of its time that their bare launching takes; on a CPU, of the same tensors."""
    X = np.resize(data.matrix(FEATURES), (batch, FEATURES))
    with torch.profiler.profile() as profile:
        DeviceScorer.raw(model.scorer)(X)
    on_device = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    count = len(on_device) or sum(event.name.startswith("aten::") for event in profile.events())
    one = torch.zeros(1, device=model.scorer.usual.device)
    each = _least(lambda: [one.add_(0) for _ in range(1_000)]) / 1_000
    return count, min(1.0, count * each / _least(lambda: model.score(X)))


def _copied(model: DetectorModel, batch: int) -> float:
    """The share of a batch's time that copying its records there and its scores back takes."""
    X = torch.from_numpy(np.resize(data.matrix(FEATURES), (batch, FEATURES)))
    device = model.scorer.usual.device
    scores = torch.zeros(batch, 3, device=device)
    return _least(lambda: (X.to(device), scores.cpu())) / _least(lambda: model.score(X.numpy()))


def _pipeline(device: str, model: DetectorModel, records: int) -> tuple[float, float]:
    with EmbeddedBroker() as broker:
        config = configure(broker.bootstrap_servers, worker={"device": device})
        fill(config, data.json_values(FEATURES), records)
        settled(config)
        floors, workers = [], []
        for _ in range(ROUNDS):
            floors.append(ceiling(config, model.schema))
            workers.append(work(config, model)[0])
    return best(floors).wall, best(workers).wall
