"""a. The whole worker over a backlog, against the bare loop that only consumes, decodes and commits."""

from benchmarks.speed import data
from benchmarks.speed.part import Measured
from benchmarks.speed.streams import Pace, best, ceiling, configure, fill, settled, work
from stream_detector.config import WorkerConfig
from stream_detector.kafka.embedded import EmbeddedBroker

__all__ = ["run"]

DEFAULTS = WorkerConfig()
RECORDS = {4: 400_000, 16: 1_000_000, 64: 300_000, 256: 100_000}
ROUNDS = 3


def run(quick: bool) -> Measured:
    """By number of features: paces of worker and ceiling, and their ratio."""
    lines, figures = [], {}
    for features, records in RECORDS.items():
        floor, worker, flagged = _compare(features, records // 5 if quick else records)
        ratio, by_cpu = worker.wall / floor.wall, worker.cpu / floor.cpu
        figures |= {f"ratio_{features}": ratio, f"ratio_cpu_{features}": by_cpu}
        lines.append(
            (
                f"{features}",
                f"{floor.wall:,.0f}",
                f"{worker.wall:,.0f}",
                f"{ratio:.2f}",
                f"{floor.cpu:,.0f}",
                f"{worker.cpu:,.0f}",
                f"{by_cpu:.2f}",
                f"{flagged:.2%}",
            )
        )
    note = (
        f"The worker with its defaults (exactly-once, window 10,000, batches of {DEFAULTS.batch_records:,}) and the default model, on JSON in "
        f"4 partitions, against a loop without any of its care. The best of {ROUNDS} rounds each, taken in turn."
    )
    head = (
        "features",
        "ceiling/s",
        "worker/s",
        "ratio",
        "ceiling per CPU s",
        "worker per CPU s",
        "ratio of CPU",
        "flagged",
    )
    return Measured("Pipeline", note, head, tuple(lines), figures)


def _compare(features: int, records: int) -> tuple[Pace, Pace, float]:
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
    return best(floors), best(workers), flagged
