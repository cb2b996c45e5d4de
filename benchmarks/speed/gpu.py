"""h. On a GPU: the scorer by batch, what graphs save, how far copying is hidden, and the pipeline."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd.profiler_util import FunctionEvent

from benchmarks.speed import data
from benchmarks.speed.part import Figure, Measured
from benchmarks.speed.streams import best, ceiling, configure, fill, settled, work
from stream_detector.errors import ConfigError, EmbeddedBrokerError
from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.model import DetectorModel
from stream_detector.scoring.device import DeviceScorer

__all__ = ["measure", "run"]

FEATURES = 16
BATCHES = (1, 64, 1_024, 8_192, 65_536, 524_288)
RECORDS = 1_000_000
SECONDS = 2.0
ROUNDS = 2

Matrix = NDArray[np.float32]


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
    rates = {batch: _rate(model.score, batch) for batch in BATCHES[: 4 if quick else None]}
    largest = max(rates)
    lines = [(f"score, batches of {batch:,}", f"{rate:,.0f}/s", f"{1e6 / rate:.3f}") for batch, rate in rates.items()]
    one_by_one = _rate(_launched_one_by_one(model), largest)
    apart = _apart(model, 20_000)
    told, ratio = _pipeline_told(device, model, RECORDS // 10 if quick else RECORDS)
    seen = _seen(model, largest)  # last: a profiler may leave something behind that slows what follows
    lines.append(("without graphs, kernels launched one by one", f"{one_by_one:,.0f}/s", f"{1e6 / one_by_one:.3f}"))
    lines += [(f"{name}, of a batch of {largest:,}", f"{value:,.0f}", "") for name, value in seen.counts.items()]
    lines += [(f"{name}, of that batch's time", f"{share:.1%}", "") for name, share in seen.shares.items()]
    lines.append(("most a score differs from the CPU's, nines", f"{apart:.1e}", ""))
    lines.append(("pipeline, of its ceiling", told, ""))
    figures: dict[str, Figure] = {"scorer_per_s": rates[largest], "at_batch": float(largest), "apart": apart}
    figures |= {"by_graphs": rates[largest] / one_by_one}
    figures |= {name.replace(" ", "_"): share for name, share in seen.shares.items()}
    figures |= {} if ratio is None else {"pipeline_ratio": ratio}
    name = torch.cuda.get_device_name() if device == "cuda" else device
    note = f"{FEATURES} features on {name}, the default model; wall time, from a matrix in memory to scores in memory."
    return Measured("GPU", note, ("", "", "µs a record"), tuple(lines), figures)


def _rate(score: Callable[[Matrix], object], batch: int) -> float:
    X = np.resize(data.matrix(FEATURES), (batch, FEATURES))
    return batch / _least(lambda: score(X))


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


@dataclass(frozen=True, slots=True)
class Seen:
    """What a profile shows of a batch: how many of what, and shares of the time from its first kernel to its last."""

    counts: dict[str, int]
    shares: dict[str, float]


def _seen(model: DetectorModel, batch: int) -> Seen:
    X = np.resize(data.matrix(FEATURES), (batch, FEATURES))
    model.score(X)
    with torch.profiler.profile(acc_events=True) as profile:
        model.score(X)
    events = list(profile.events())
    done = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    copies = [event for event in done if event.name.startswith(("Memcpy HtoD", "Memcpy DtoH"))]
    kernels = [event for event in done if not event.name.startswith("Mem")]
    launches = sum(event.name.startswith(("cudaGraphLaunch", "cudaLaunchKernel", "cuLaunchKernel")) for event in events)
    busy, copied, both = _covered(kernels), _covered(copies), _covered(kernels + copies)
    whole = max((event.time_range.end for event in done), default=1) - min(
        (event.time_range.start for event in done), default=0
    )
    shares = {"computing": busy / whole, "copying": copied / whole, "copying beside computing": busy + copied - both}
    shares["copying beside computing"] /= whole
    return Seen({"kernels": len(kernels), "launches": launches}, shares)


def _covered(events: list[FunctionEvent]) -> float:
    """Microseconds in which at least one of the events goes on."""
    covered, until = 0.0, -np.inf
    for event in sorted(events, key=lambda event: event.time_range.start):
        covered += max(0.0, event.time_range.end - max(until, event.time_range.start))
        until = max(until, event.time_range.end)
    return covered


def _launched_one_by_one(model: DetectorModel) -> DeviceScorer:
    """A scorer by the same tensors without graphs."""
    plain = DeviceScorer.calibrated(model.scorer, model.calibration)
    plain._stream.as_graph = lambda work: work  # type: ignore[method-assign]  # noqa: SLF001 - what nobody but this wants
    return plain


def _apart(model: DetectorModel, records: int) -> float:
    """The most that scores differ from the CPU's, in nines."""
    X = data.matrix(FEATURES, records, seed=3)
    return float(np.abs(model.score(X).columns() - model.to("cpu").score(X).columns()).max())


def _pipeline_told(device: str, model: DetectorModel, records: int) -> tuple[str, float | None]:
    """The worker's share of its ceiling, in words, and as a number where there is a broker."""
    try:
        floor, worker = _pipeline(device, model, records)
    except EmbeddedBrokerError as error:
        return f"not measured: {error}", None
    return f"{worker / floor:.2f}", worker / floor


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
