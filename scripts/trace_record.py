"""Prints the road of one flagged record: the engine's files whose functions run between its poll and its commit.

    python scripts/trace_record.py [--json]

A real worker on the embedded broker is given ordinary records, then, once it is idle, one that it flags. Its
compiled code runs as Python, so that its files are seen, too. The road holds the files in the order in which
they are entered first. Only the command line of `stream-detector` is used, so it traces any version whose
package comes first on PYTHONPATH.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from traced_worker import TRACED, package

HERE = Path(__file__).parent
ORDINARY, ODD = 600, {"cpu": 95.0, "memory": 5.0, "latency": 40.0, "requests": 3.0}
SETTINGS = {"steps": 60, "hidden": 16}
FED = 40  # records before the traced one
WAIT_S = 240.0  # until the worker has committed; interpreted code is slow
QUIET_S = 1.0  # until the worker has done with the ordinary records
COMPILED = ("scoring/compiled/", "scoring/device/")  # counted apart


@contextmanager
def started(*command: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own for as long as the block runs."""
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "400"} | environment
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def ordinary() -> Iterator[dict[str, float]]:
    """Records whose features move together."""
    chance = random.Random(1)
    for _ in range(ORDINARY):
        load = chance.gauss(0, 1)
        yield {
            "cpu": 50 + 10 * load + chance.gauss(0, 1),
            "memory": 30 + 5 * load + chance.gauss(0, 1),
            "latency": 3 + abs(load) + chance.gauss(0, 0.1),
            "requests": 100 + 20 * load + chance.gauss(0, 2),
        }


@contextmanager
def broker() -> Iterator[str]:
    """Its address: KAFKA_BOOTSTRAP_SERVERS if set, else that of an embedded one."""
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield given
        return
    with started("-m", "stream_detector", "broker", "--port", "0") as process:
        assert process.stdout
        yield process.stdout.readline().split("listens at ")[1].split()[0]


def traced(address: str, folder: Path) -> list[str]:
    """The road of a flagged record through a worker, paths relative to the package."""
    tag = os.urandom(4).hex()
    names = {kind: f"{kind}-{tag}" for kind in ("alerts", "dead_letters", "models", "feedback", "control", "shadow")}
    config, out = folder / "traced.yaml", folder / "road.json"
    config.write_text(
        json.dumps(  # JSON is YAML
            {
                "kafka": {"bootstrap_servers": address, "group_id": f"traced-{tag}"},
                "topics": {"telemetry": [f"telemetry-{tag}"], "partitions": 1, **names},
                "log": {"level": "warning"},
                "model": SETTINGS,
            }
        )
    )
    table, records = folder / "ordinary.csv", list(ordinary())
    table.write_text("\n".join([",".join(ODD), *(",".join(map(str, record.values())) for record in records)]))
    for command in (["topics", "create"], ["fit", table, "--publish"]):
        subprocess.run([sys.executable, "-m", "stream_detector", *command, "-c", config], check=True, stdout=sys.stderr)
    with started(HERE / "traced_worker.py", out, "run", "-c", config, NUMBA_DISABLE_JIT="1") as worker:
        feed = Feed(address, f"telemetry-{tag}", f"traced-{tag}", worker)
        feed.give(records[:FED], None)
        feed.await_commit()
        time.sleep(QUIET_S)
        feed.give([ODD], TRACED)
        feed.await_commit()
    assert flagged(address, names["alerts"]), "the record was not flagged"
    road: list[str] = json.loads(out.read_text())
    return road


class Feed:
    """Writes records to a partition and waits until the group has committed them."""

    def __init__(self, address: str, topic: str, group: str, worker: subprocess.Popen[str]) -> None:
        from confluent_kafka import Consumer, Producer, TopicPartition

        self._topic, self._worker, self._given = topic, worker, 0
        self._partition = TopicPartition(topic, 0)
        self._producer = Producer({"bootstrap.servers": address})
        self._committed = Consumer({"bootstrap.servers": address, "group.id": group})

    def give(self, records: list[dict[str, Any]], key: bytes | None) -> None:
        for features in records:
            self._given += 1
            value = {"id": f"record-{self._given}", "features": features}
            self._producer.produce(self._topic, json.dumps(value).encode(), key, 0)
        assert not self._producer.flush(30), "the broker does not take records"

    def await_commit(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while self._committed.committed([self._partition], 10)[0].offset < self._given:
            assert self._worker.poll() is None, "the worker ended"
            assert time.monotonic() < deadline, f"nothing is committed after {WAIT_S:.0f} s"
            time.sleep(0.1)


def committed(address: str, topic: str) -> list[Any]:
    """The committed messages of a topic with one partition, read without a trace in any group."""
    from confluent_kafka import Consumer, TopicPartition

    reader = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    try:
        reader.assign([TopicPartition(topic, 0, 0)])
        return list(reader.consume(10_000, 5.0))
    finally:
        reader.close()


def flagged(address: str, topic: str) -> bool:
    """Whether an alert is of the traced record."""
    return any(message.key() == TRACED for message in committed(address, topic))


def show(road: list[str], root: Path) -> None:
    """The road, a line a file, and the totals."""
    lines = [len((root / file).read_text().splitlines()) for file in road]
    for place, (file, count) in enumerate(zip(road, lines, strict=True), 1):
        print(f"{place:3} {count:5} {file}")
    print(f"outside {' and '.join(COMPILED)}: {outside(road)} files")
    print(f"in all: {len(road)} files, {sum(lines):,} lines")


def outside(road: list[str]) -> int:
    """How many files of the road are not the compiled code's or the devices'."""
    return sum(not file.startswith(COMPILED) for file in road)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the road alone, as a JSON array")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trace-record-") as folder, broker() as address:
        road = traced(address, Path(folder))
    if options.json:
        print(json.dumps(road))
    else:
        show(road, package())


if __name__ == "__main__":
    main()
