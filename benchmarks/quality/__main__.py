"""`python -m benchmarks.quality`: the detector and its peers on public sets."""

import sys

from benchmarks.quality.command import benchmark
from benchmarks.quality.methods import METHODS

if __name__ == "__main__":
    sys.exit(benchmark("quality", "Detection quality", METHODS, sys.argv[1:]))
