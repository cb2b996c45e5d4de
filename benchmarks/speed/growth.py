"""f. Memory over a long backlog, start-up, restoring windows, and throughput by workers."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.speed import data
from benchmarks.speed.part import Measured
from benchmarks.speed.streams import configure, fill, settled
from stream_detector.audit.replay import RecordPosition, state_at
from stream_detector.config import Config
from stream_detector.kafka.embedded import EmbeddedBroker
from stream_detector.worker.judge import Judge

__all__ = ["run"]

FEATURES = 16
RECORDS = 5_000_000
SHARED = 600_000  # records that one or two workers read
WORKERS = (1, 2)
MEGABYTE = 2**20


def run(quick: bool) -> Measured:
    """Resident memory at the first and the last fifth of a backlog; seconds; records a second."""
    records, shared = (RECORDS // 10, SHARED // 2) if quick else (RECORDS, SHARED)
    values, model = data.json_values(FEATURES), data.model(FEATURES)
    with EmbeddedBroker() as broker:
        config = configure(broker.bootstrap_servers)
        fill(config, values, records)
        started = time.time()
        [marks] = _workers(config, 1)
        ready = marks[0]["time"] - started
        early = max(mark["rss"] for mark in marks if mark["records"] <= records / 5) / MEGABYTE
        late = max(mark["rss"] for mark in marks if mark["records"] >= records * 4 / 5) / MEGABYTE
        judge = Judge(model, config)
        place = RecordPosition(config.topics.telemetry[0], 0, records // config.topics.partitions)
        restore = min(_timed(lambda: state_at(config, judge, place)) for _ in range(3))
        other = configure(broker.bootstrap_servers)
        fill(other, values, shared)
        settled(other)
        paces = {count: _pace(_workers(other, count), shared) for count in WORKERS}
    lines = [
        ("resident memory in the first fifth, MiB", f"{early:.0f}"),
        ("in the last fifth, MiB", f"{late:.0f}"),
        ("growth", f"{late / early - 1:.1%}"),
        ("start of the process to first records committed, s", f"{ready:.1f}"),
        ("a partition's window of 10,000 restored, s", f"{restore:.2f}"),
        *((f"{count} worker{'s' * (count > 1)}, records/s", f"{pace:,.0f}") for count, pace in paces.items()),
    ]
    note = (
        f"{records:,} records of {FEATURES} features in 4 partitions, the worker in a process of its own. Windows are restored one "
        "partition after the other. Workers share the machine's cores with the broker and with each other, and are timed from the first one's first report."
    )
    figures = {
        "rss_growth": late / early - 1,
        "startup_s": ready,
        "restore_s": restore,
        "two_workers_to_one": paces[2] / paces[1],
    }
    return Measured("Memory and growth", note, ("", ""), tuple(lines), figures)


def _workers(config: Config, count: int) -> list[list[dict[str, Any]]]:
    """Runs so many workers of one group over all records; what each reported."""
    data.model(FEATURES)
    group = f"growth-{time.monotonic_ns()}"
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda slot: _worker(config, group, slot), range(count)))


def _worker(config: Config, group: str, slot: int) -> list[dict[str, Any]]:
    kafka = config.kafka.model_copy(update={"group_id": group, "slot": f"{group}-{slot}"})
    own = config.model_copy(update={"kafka": kafka}).model_dump(mode="json", exclude_defaults=True)
    command = [sys.executable, "-m", "benchmarks.speed.child", str(data.stored_model(FEATURES)), json.dumps(own)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [mark for line in done.stdout.splitlines() if (mark := json.loads(line))["records"]]


def _pace(reports: list[list[dict[str, Any]]], records: int) -> float:
    """From the first report of the earliest worker to the last of all; some join later."""
    reports = [marks for marks in reports if marks]
    first = min((marks[0] for marks in reports), key=lambda mark: float(mark["time"]))
    end = max(float(marks[-1]["time"]) for marks in reports)
    last = sum(int(marks[-1]["records"]) for marks in reports)
    return float((min(last, records) - first["records"]) / max(end - first["time"], 1e-9))


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
