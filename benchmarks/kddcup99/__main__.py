"""`make bench-kddcup99`: a real data set in file order through Kafka, held against its labels.

Fits on the first 30,000 normal records, replays all others with their labels withheld, runs a worker
until the end, and compares scores and alerts with the labels, beside two baselines in the same run.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.kddcup99.baselines import Baseline, baselines
from benchmarks.kddcup99.data import TRAINING, Kdd, load
from benchmarks.kddcup99.pipeline import Replay, replay
from benchmarks.kddcup99.report import figures, machine, page, table
from producers.feed import Message
from stream_detector import DetectorModel, Scores, fit
from stream_detector.config import RecordConfig
from stream_detector.errors import DataError, StreamDetectorError
from stream_detector.model import as_matrix
from stream_detector.records import Decoder

GOAL = 0.98
RESULT = Path(__file__).parents[1] / "results" / "kddcup99.md"
CHUNK = 20_000


def main() -> int:
    """The benchmark; returns its exit code."""
    torch.set_num_threads(1)
    try:
        return _measure(load())
    except StreamDetectorError as error:
        print(f"!!! error: {error}", file=sys.stderr)
        return error.exit_code


def _measure(data: Kdd) -> int:
    labels = data.labels[data.replayed]
    say(f"fitting on the first {TRAINING:,} normal records")
    training = data.training_rows()
    start = time.perf_counter()
    model = fit(training, seed=0, device="cpu")
    fitted = time.perf_counter() - start

    say(f"replaying {len(labels):,} records through Kafka; a worker judges them")
    seen: list[NDArray[np.float32]] = []
    run = replay(model, _copied(data.telemetry(), model, seen))
    matrix = np.concatenate(seen)

    say("scoring the same records directly, to compare")
    start = time.perf_counter()
    scores = model.score(matrix)
    speed = len(matrix) / (time.perf_counter() - start)
    flagged = _flagged(run, data, scores.anomaly)

    say("baselines")
    others = baselines(model.schema, as_matrix(training, model.schema), matrix)
    text = page(
        {
            "Machine": machine(),
            "Set-up": _setup(model, run, fitted, flagged),
            "Detection by attack class": table(labels, scores.anomaly, flagged),
            "Opinions and baselines": _comparison(labels != "normal", scores, speed, others),
        }
    )
    RESULT.write_text(text, encoding="utf-8")
    print(text)
    found = figures(labels != "normal", scores.anomaly, flagged)
    print(
        f"auroc={found.auroc:.4f} auprc={found.auprc:.4f} precision={found.precision:.4f} "
        f"recall={found.recall:.4f} records_per_s={run.records / run.seconds:.0f}"
    )
    if found.auroc < GOAL:
        print(f"!!! AUROC is below the goal of {GOAL}", file=sys.stderr)
    return int(found.auroc < GOAL)


def _copied(telemetry: Iterable[Message], model: DetectorModel, seen: list[NDArray[np.float32]]) -> Iterator[Message]:
    """The telemetry, unchanged; the matrix that a worker decodes from it is kept in `seen`."""
    stream = iter(telemetry)
    while chunk := list(islice(stream, CHUNK)):
        decoded = Decoder(RecordConfig()).decode([value for _, value in chunk], model.schema)
        if decoded.rejected:
            raise DataError(f"a record cannot be read: {next(iter(decoded.rejected.values())).message}")
        seen.append(decoded.features)
        yield from chunk


def _flagged(run: Replay, data: Kdd, anomaly: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which replayed records were flagged; checks that every alert's score is the direct one."""
    positions = {str(row): position for position, row in enumerate(data.replayed.tolist())}
    flagged = np.zeros(len(anomaly), dtype=np.bool_)
    for alert in run.alerts:
        position = positions[alert.event_id or ""]
        if flagged[position]:
            raise DataError(f"record {alert.event_id}: two alerts; exactly one was expected")
        if not np.isclose(alert.score, anomaly[position], rtol=1e-5):
            raise DataError(f"record {alert.event_id}: alert score {alert.score}, direct score {anomaly[position]}")
        flagged[position] = True
    return flagged


def _setup(model: DetectorModel, run: Replay, fitted: float, flagged: NDArray[np.bool_]) -> str:
    return (
        f"Fitted on the first {TRAINING:,} records labelled normal, 41 features, 3 of them categorical, in "
        f"{fitted:.0f} s (model {model.version[:12]}). All other {run.records:,} records were replayed in file order "
        f"with their labels withheld, one partition, default configuration. `stream-detector run --until-end` took "
        f"{run.seconds:.1f} s from start to exit: {run.records / run.seconds:,.0f} records/s. It flagged "
        f"{int(flagged.sum()):,}; every alert's score equals that of the same record scored directly."
    )


def _comparison(attack: NDArray[np.bool_], scores: Scores, speed: float, others: list[Baseline]) -> str:
    rows = np.arange(len(attack))
    ours = [
        Baseline("stream-detector", rows, scores.anomaly.astype(np.float64), speed),
        Baseline("its inversion alone", rows, scores.inversion.astype(np.float64), speed),
        Baseline("its discriminator alone", rows, scores.discriminator.astype(np.float64), speed),
    ]
    lines = ["| detector | records | AUROC | AUPRC | scored, records/s |", "|---|--:|--:|--:|--:|"]
    lines += [
        f"| {one.name} | {len(one.rows):,} | {roc_auc_score(attack[one.rows], one.scores):.4f} "
        f"| {average_precision_score(attack[one.rows], one.scores):.4f} | {one.records_per_s:,.0f} |"
        for one in (*ours, *others)
    ]
    return "\n".join(lines)


def say(what: str) -> None:
    """One line of progress on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
