"""a. The whole worker over a backlog, against the bare loop that only consumes, decodes and commits."""

from statistics import median
from typing import NamedTuple

from benchmarks.speed import data
from benchmarks.speed.part import Measured
from benchmarks.speed.streams import Pace, best, ceiling, configure, fill, settled, work
from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.worker.judge import FIRST

__all__ = ["run"]

RECORDS = {4: 400_000, 16: 1_000_000, 64: 300_000, 256: 100_000}
ROUNDS = 7


class Compared(NamedTuple):
    """The loops' best paces, and the median of what the worker's was of the ceiling's in the same round."""

    floor: Pace
    worker: Pace
    typical: float
    flagged: float


def run(quick: bool) -> Measured:
    """By number of features: paces of worker and ceiling, and their ratio."""
    lines, figures = [], {}
    for features, records in RECORDS.items():
        floor, worker, typical, flagged = _compare(features, records // 5 if quick else records)
        ratio, by_cpu = worker.wall / floor.wall, worker.cpu / floor.cpu
        figures |= {
            f"ratio_{features}": ratio,
            f"ratio_typical_{features}": typical,
            f"ratio_cpu_{features}": by_cpu,
        }
        lines.append(
            (
                f"{features}",
                f"{floor.wall:,.0f}",
                f"{worker.wall:,.0f}",
                f"{ratio:.2f}",
                f"{typical:.2f}",
                f"{floor.cpu:,.0f}",
                f"{worker.cpu:,.0f}",
                f"{by_cpu:.2f}",
                f"{flagged:.2%}",
            )
        )
    note = (
        f"The worker with its defaults (exactly-once, window 10,000, batches of {FIRST:,}, more where they are brief) and the default model, on JSON in "
        f"4 partitions, against a loop without any of its care. {ROUNDS} rounds, ceiling and worker in turn: the best of each and their ratio, "
        "and the median of the rounds' ratios."
    )
    head = (
        "features",
        "ceiling/s",
        "worker/s",
        "ratio",
        "median ratio",
        "ceiling per CPU s",
        "worker per CPU s",
        "ratio of CPU",
        "flagged",
    )
    return Measured("Pipeline", note, head, tuple(lines), figures)


def _compare(features: int, records: int) -> Compared:
    model, flagged = data.model(features), 0.0
    floors, workers = [], []
    with EmbeddedBroker() as broker:
        config = configure(broker.bootstrap_servers)
        fill(config, data.json_values(features), records)
        settled(config)
        for _ in range(ROUNDS):
            floors.append(ceiling(config, model.schema))
            pace, summary = work(config, model)
            workers.append(pace)
            flagged = summary.flagged / summary.records
    ratios = [worker.wall / floor.wall for floor, worker in zip(floors, workers, strict=True)]
    return Compared(best(floors), best(workers), median(ratios), flagged)
