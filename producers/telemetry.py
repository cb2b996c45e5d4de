"""A fleet of services as it looks when all is well: daily load, and metrics that follow it.

Every entity has its own phase of the day and its own gains. One hidden load drives all metrics, so
that they move together; what is left between them is noise of a few per cent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CATEGORY", "METRICS", "RELEASE", "Fleet", "Metric", "State"]

Floats = NDArray[np.float64]

CATEGORY = "status"
BUSY_LOAD = 0.8
MAINTENANCE = 0.02  # share of records
NAMES = ("checkout", "search", "payments", "catalogue", "accounts", "shipping", "reviews", "mail")


@dataclass(frozen=True, slots=True)
class Metric:
    """One number a service reports: its usual spread over a day and its limits, in its own unit."""

    name: str
    spread: float
    decimals: int
    highest: float = float("inf")
    missing: float = 0.0  # share of records that lack it, harmlessly

    def bounded(self, value: float) -> float:
        """`value` as the service would report it."""
        return round(min(max(value, 0.0), self.highest), self.decimals)


METRICS = (
    Metric("requests_per_s", spread=90, decimals=1),
    Metric("cpu_percent", spread=18, decimals=1, highest=100),
    Metric("memory_mb", spread=130, decimals=0),
    Metric("latency_ms", spread=17, decimals=2),
    Metric("error_percent", spread=0.07, decimals=3, highest=100),
    Metric("queue_depth", spread=9, decimals=0),
    Metric("disk_io_mb_s", spread=14, decimals=2, missing=0.005),
    Metric("network_mb_s", spread=10, decimals=2),
    Metric("temperature_c", spread=6, decimals=1, missing=0.005),
)


RELEASE = {"cpu_percent": 0.88, "memory_mb": 1.07, "latency_ms": 1.18, "disk_io_mb_s": 0.86}
"""What the fleet's next release does to its metrics, as factors: the same load costs something else, for good."""


@dataclass(frozen=True, slots=True)
class State:
    """One moment of the whole fleet, float64 [entity] or [entity, noise]; `values` renders it.

    `load` is in [0, 1]; `slow` and `warm` trail behind it, as memory and heat do.
    """

    load: Floats
    slow: Floats
    warm: Floats
    noise: Floats


class Fleet:
    """The entities and their moments, step by step; a pure function of seed, entities, period and release.

    From step `release` on, the next release runs everywhere (None: never).
    """

    def __init__(self, random: np.random.Generator, entities: int, period: int, release: int | None = None) -> None:
        self.names = tuple(NAMES[e] if e < len(NAMES) else f"service-{e + 1}" for e in range(entities))
        self._random = random
        self._period = period
        self._phase = random.random(entities)
        self._gain = 1 + 0.05 * random.uniform(-1, 1, (entities, 3))
        self._release = release
        self._factors = np.ones(len(METRICS))
        self._wander = np.zeros(entities)
        self._slow = self._warm = self._season(0)

    def advance(self, step: int) -> tuple[State, list[str], NDArray[np.bool_]]:
        """The moment at `step`: metrics' state, category of each entity, and which values are missing.

        Steps must come in order from 0; each draws the same number of random values.
        """
        entities = len(self.names)
        if step == self._release:
            self._factors = np.array([RELEASE.get(metric.name, 1.0) for metric in METRICS])
        noise = self._random.standard_normal((entities, len(METRICS) + 1))
        chance = self._random.random((entities, len(METRICS) + 1))
        self._wander = 0.95 * self._wander + 0.015 * noise[:, -1]
        load = np.clip(self._season(step) + self._wander, 0.02, 1.0)
        self._slow = self._slow + 0.05 * (load - self._slow)
        self._warm = self._warm + 0.1 * (load - self._warm)
        missing = chance[:, :-1] < np.array([metric.missing for metric in METRICS])
        categories = [_category(*pair) for pair in zip(load.tolist(), chance[:, -1].tolist(), strict=True)]
        return State(load, self._slow, self._warm, noise), categories, missing

    def values(self, state: State) -> Floats:
        """Metrics [entity, metric] of a moment, in the order and units of `METRICS`, unbounded."""
        load, noise = state.load, state.noise.T
        requests = self._gain[:, 0] * (20 + 380 * load) * (1 + 0.03 * noise[0])
        values = np.column_stack(
            (
                requests,
                8 + 72 * load + 2.0 * noise[1],
                1_400 * self._gain[:, 1] + 520 * state.slow + 15 * noise[2],
                self._gain[:, 2] * (18 + 30 * load + 50 * load**3) * np.exp(0.05 * noise[3]),
                0.1 * np.exp(1.3 * load + 0.15 * noise[4]),
                2 + 40 * load**3 * np.exp(0.1 * noise[5]),
                (5 + 55 * load) * np.exp(0.07 * noise[6]),
                self._gain[:, 0] * (2 + 42 * load) * (1 + 0.03 * noise[7]),
                30 + 26 * state.warm + 0.5 * noise[8],
            )
        )
        return values * self._factors

    def _season(self, step: int) -> Floats:
        turn = 2 * np.pi * (step / self._period + self._phase)
        season: Floats = 0.48 + 0.32 * np.sin(turn) + 0.08 * np.sin(2 * turn)
        return season


def _category(load: float, chance: float) -> str:
    if chance < MAINTENANCE:
        return "maintenance"
    return "busy" if load > BUSY_LOAD else "ok"
