"""All methods of the benchmark, ours first, then from the cheapest to the dearest."""

from benchmarks.quality.classical import CLASSICAL
from benchmarks.quality.deep import DEEP
from benchmarks.quality.gans import GANS
from benchmarks.quality.method import Method
from benchmarks.quality.noise_levels import NOISE_LEVELS
from benchmarks.quality.ours import OURS

__all__ = ["METHODS", "PEERS"]

PEERS: tuple[Method, ...] = (*CLASSICAL, NOISE_LEVELS, *GANS, *DEEP)
METHODS: tuple[Method, ...] = (OURS, *PEERS)
