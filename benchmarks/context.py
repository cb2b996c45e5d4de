"""`python -m benchmarks.context`: the cost of contexts beside that of decoding the same records.

Both tables are taught all the time where the history is as long as an epoch; with the default history a fifth of it.
"""

import math
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import orjson
from numpy.typing import NDArray

from stream_detector.config import RecordConfig
from stream_detector.context.epochs import PartitionContext
from stream_detector.context.spec import ContextSpec
from stream_detector.context.teaching import Population
from stream_detector.features import Feature, FeatureSchema, Kind
from stream_detector.records import Decoder

ENTITIES, FEATURES, BATCH, BATCHES = 20_000, 16, 4_096, 12
STEP = 300 * 10**9 // ENTITIES  # nanoseconds from one record to the next: each entity has one every five minutes
TURNS = 5
EPOCH = 1_000_000


class Stream:
    """Records of many entities in random order, and the values that Kafka would hold."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        count = BATCH * BATCHES
        self.names = [f"service-{at:05d}" for at in rng.integers(0, ENTITIES, count)]
        self.values = np.round(rng.gamma(2.0, 20.0, (count, FEATURES)), 4)
        self.schema = FeatureSchema(tuple(Feature(f"feature_{at:02d}", Kind.NUMERIC) for at in range(FEATURES)))
        self.raw = [
            orjson.dumps({"id": at, "features": dict(zip(self.schema.names, row, strict=True))})
            for at, row in enumerate(self.values.tolist())
        ]

    def batches(self) -> list[slice]:
        return [slice(at, at + BATCH) for at in range(0, BATCH * BATCHES, BATCH)]


class Reader:
    """A context that has met every entity, and goes on through its log; `both` tables are taught, or one."""

    def __init__(self, stream: Stream, *, both: bool) -> None:
        names = tuple(stream.schema.names)
        spec = ContextSpec(names, epoch=EPOCH, history=EPOCH if both else 1, most_entities=ENTITIES)
        self.context, self._stream, self._at = PartitionContext(spec), stream, 0
        self._population = Population(np.full(FEATURES, 40.0), np.full(FEATURES, 800.0), 20.0)
        everyone = [f"service-{at:05d}" for at in range(ENTITIES)]
        for _ in range(10):
            self._read(everyone, np.full((ENTITIES, FEATURES), 40.0))

    def __call__(self, part: slice) -> None:
        self._read(self._stream.names[part], self._stream.values[part])

    def _read(self, names: list[str], values: NDArray[np.float64]) -> None:
        offsets = self._at + np.arange(len(names))
        times = offsets * STEP
        self._at += len(names)
        self.context.columns(offsets, names, times, times // (3_600 * 10**9), values, self._population)


def seconds(work: Callable[[slice], object], parts: list[slice]) -> float:
    """Processor seconds of this thread for all the parts."""
    begun = time.thread_time()
    for part in parts:
        work(part)
    return time.thread_time() - begun


def main() -> int:
    stream = Stream()
    decoder = Decoder(RecordConfig())
    readers = {"both tables": Reader(stream, both=True), "one table": Reader(stream, both=False)}
    best = dict.fromkeys(("decoding", *readers), math.inf)
    for _ in range(TURNS):
        best["decoding"] = min(best["decoding"], seconds(partial(_decode, decoder, stream), stream.batches()))
        for name, reader in readers.items():
            best[name] = min(best[name], seconds(reader, stream.batches()))
    for name, spent in best.items():
        print(f"{name}: {spent / (BATCH * BATCHES) * 1e6:.2f} µs a record, {spent / best['decoding']:.2f} of decoding")
    both = readers["both tables"].context
    print(f"{both.memory / both.entities / 2:,.0f} bytes an entity and table")
    return 0


def _decode(decoder: Decoder, stream: Stream, part: slice) -> None:
    decoder.decode(stream.raw[part], stream.schema)


if __name__ == "__main__":
    sys.exit(main())
