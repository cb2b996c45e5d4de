"""Keeps what this release writes, for `tests/unit/test_upgrade.py` of every later one.

    python scripts/keep_release.py RELEASE

A model is fitted and published, and a real worker on the embedded broker is given ordinary records, some that it
cannot use, some that it flags, and a lasting change. `tests/fixtures/RELEASE/` then holds the model, records with
their scores, and messages of each topic. Only the command line and `DetectorModel` are used.
"""

import argparse
import base64
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trace_record import broker, committed

FIXTURES = Path(__file__).parents[1] / "tests/fixtures"
ORDINARY, CHANGED, SCORED = 1_600, 1_600, 24
MOST = {"alerts": 6, "dead_letters": 5, "control": 6}  # messages of a topic that are kept
SETTINGS = {"steps": 60, "hidden": 16}
UNUSABLE = (
    b"not json",
    None,
    b"[1]",
    b'{"features": {"cpu": "high", "mem": 1}}',
    b'{"features": {"cpu": 1e99, "mem": 1}}',
)


def features(count: int, seed: int, shift: float = 0.0) -> Iterator[dict[str, Any]]:
    """Records of two numbers that move together and a category."""
    chance = random.Random(seed)
    for _ in range(count):
        load = chance.gauss(0, 1)
        yield {
            "cpu": 40 + 10 * load + shift,
            "mem": 500 + 50 * load + chance.gauss(0, 5),
            "region": chance.choice(("eu", "us")),
        }


def values() -> Iterator[bytes | None]:
    """What the telemetry topic gets, in order."""
    changed = features(CHANGED, 2, shift=25.0)
    for number, record in enumerate((*features(ORDINARY, 1), *changed)):
        odd = {"cpu": 200.0} if number % 400 == 399 else {}
        body = {"id": f"r-{number}", "entity": f"e-{number % 5}", "time": "2026-01-01T00:00:00Z"}
        yield json.dumps(body | {"features": record | odd}).encode()
        if number == ORDINARY:
            yield from UNUSABLE


def written(address: str, folder: Path) -> tuple[dict[str, str], Path]:
    """Has a worker judge all; returns its topics by kind, and the model's file."""
    tag = os.urandom(3).hex()
    names = {
        kind: f"kept-{tag}-{kind}" for kind in ("alerts", "dead_letters", "models", "feedback", "control", "shadow")
    }
    config, table, model = folder / "kept.yaml", folder / "ordinary.jsonl", folder / "model.safetensors"
    settings = {
        "kafka": {"bootstrap_servers": address, "group_id": f"kept-{tag}"},
        "topics": {"telemetry": [f"kept-{tag}"], "partitions": 1, **names},
        "threshold": {"window": 1_000, "target_alert_rate": 0.01},
        "model": SETTINGS,
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    table.write_text("\n".join(json.dumps(record) for record in features(600, 0)))
    call(config, "topics", "create")
    call(config, "fit", str(table), "--publish", "--out", str(model))
    feed(address, f"kept-{tag}")
    call(config, "run", "--until-end")
    return names, model


def call(config: Path, *command: str) -> None:
    subprocess.run([sys.executable, "-m", "stream_detector", *command, "-c", config], check=True, stdout=sys.stderr)


def feed(address: str, topic: str) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address})
    for number, value in enumerate(values()):
        producer.produce(topic, value, f"k{number % 7}".encode(), 0, headers=[("h", b"x")])
        producer.poll(0)
    assert not producer.flush(30), "the broker does not take records"


def messages(address: str, topic: str) -> Iterator[dict[str, Any]]:
    """The committed messages of a topic with one partition, keys, values and header values in base64."""
    for message in committed(address, topic):
        yield {
            "topic": topic,
            "partition": 0,
            "offset": message.offset(),
            "timestamp": message.timestamp()[1],
            "key": text(message.key()),
            "value": text(message.value()),
            "headers": [[name, text(value)] for name, value in message.headers() or ()],
        }


def text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def spread(found: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most so many messages, evenly spaced, the first and the last among them."""
    places = {round(place * (len(found) - 1) / (most - 1)) for place in range(most)} if len(found) > most else None
    return [message for at, message in enumerate(found) if places is None or at in places]


def keep(folder: Path, address: str, names: dict[str, str], artifact: Path) -> None:
    """Writes the release's folder."""
    from stream_detector import DetectorModel

    model, records = DetectorModel.load(artifact), list(features(SCORED, 3))
    scores = model.score(records)
    opinions = {name: getattr(scores, name).tolist() for name in ("inversion", "discriminator", "anomaly")}
    folder.mkdir()
    (folder / "model.artifact").write_bytes(artifact.read_bytes())
    (folder / "scores.json").write_text(json.dumps({"version": model.version, "records": records} | opinions))
    kept = {kind: spread(list(messages(address, names[kind])), most) for kind, most in MOST.items()}
    pointers = [message for message in messages(address, names["models"]) if message["key"] == text(b"current")]
    for kind, found in (kept | {"pointer": pointers}).items():
        assert found, f"nothing was written to {kind}"
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(message) + "\n" for message in found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", help="version, or commit, that the folder is named by")
    folder = FIXTURES / parser.parse_args().release
    if folder.exists():
        parser.error(f"{folder} is there already; what a release wrote is never made again")
    with tempfile.TemporaryDirectory(prefix="keep-release-") as place, broker() as address:
        keep(folder, address, *written(address, Path(place)))


if __name__ == "__main__":
    main()
