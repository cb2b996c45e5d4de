"""The record road: consumed messages in, alerts and dead letters out; pure, no I/O.

    bytes -> decode -> score (normalise, invert, discriminate, calibrate, combine)
          -> threshold -> explain the flagged -> alert

What comes out is a function of each partition's log and the model alone. Messages of one
partition must come in offset order; how they are cut into batches does not matter.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from stream_detector.config import RecordConfig, ThresholdConfig
from stream_detector.model import DetectorModel, Scores
from stream_detector.records import Alert, Contribution, DeadLetter, Decoded, Message, decode, identity, raw
from stream_detector.scoring.explanation import Explanation
from stream_detector.scoring.threshold import Limits, RollingThreshold, Threshold

__all__ = ["Outcome", "detect", "history", "limits"]

SEVERITIES = ((3.0, "critical"), (2.0, "major"), (1.0, "minor"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where every message of a batch ended: `normal + len(alerts) + len(dead_letters)` = messages."""

    alerts: tuple[Alert, ...]
    dead_letters: tuple[DeadLetter, ...]
    normal: int


def detect(
    messages: Sequence[Message],
    model: DetectorModel,
    thresholds: Mapping[tuple[str, int], RollingThreshold],
    record: RecordConfig,
) -> Outcome:
    """Judges a batch; moves the thresholds of its partitions forward.

    `thresholds` holds one for every (topic, partition) in the batch.
    """
    decoded = decode([raw(m.value()) for m in messages], model.schema, record)
    scores = model.score(decoded.features)
    flagged = _flag([messages[position] for position in decoded.kept], scores, thresholds)
    explanations = model.explain(decoded.features[list(flagged)]) if flagged else []
    alerts = tuple(
        _alert(messages[decoded.kept[row]], decoded, row, scores, threshold, explanation, model.version, record)
        for (row, threshold), explanation in zip(flagged.items(), explanations, strict=True)
    )
    dead_letters = tuple(DeadLetter.of(messages[position], why) for position, why in sorted(decoded.rejected.items()))
    return Outcome(alerts, dead_letters, len(messages) - len(alerts) - len(dead_letters))


def history(messages: Sequence[Message], model: DetectorModel, record: RecordConfig) -> list[float]:
    """Scores of the usable messages, in order, for a threshold window; nothing is judged."""
    decoded = decode([raw(m.value()) for m in messages], model.schema, record)
    return _decimals(model.score(decoded.features).anomaly)


def limits(model: DetectorModel, config: ThresholdConfig) -> Limits:
    """The span and bounds of thresholds under this model's calibration."""
    rate = config.target_alert_rate
    return Limits(
        target_alert_rate=rate,
        window=config.window,
        warmup=config.warmup,
        nominal=model.calibration.quantile(rate),
        floor=model.calibration.quantile(rate * config.slack),
        ceiling=model.calibration.quantile(rate / config.slack),
    )


def _flag(
    messages: Iterable[Message], scores: Scores, thresholds: Mapping[tuple[str, int], RollingThreshold]
) -> dict[int, Threshold]:
    """Rows whose score exceeds its threshold, with that threshold."""
    flagged: dict[int, Threshold] = {}
    for row, (message, score) in enumerate(zip(messages, _decimals(scores.anomaly), strict=True)):
        threshold = thresholds[message.topic(), message.partition()].judge(score)  # type: ignore[index]
        if score > threshold.value:
            flagged[row] = threshold
    return flagged


def _alert(
    message: Message,
    decoded: Decoded,
    row: int,
    scores: Scores,
    threshold: Threshold,
    explanation: Explanation,
    model_version: str,
    record: RecordConfig,
) -> Alert:
    event_id, entity, event_time = identity(decoded.documents[row], record)
    score, inversion, discriminator = _decimals(
        np.array([scores.anomaly[row], scores.inversion[row], scores.discriminator[row]])
    )
    return Alert(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=raw(message.key()),
        event_id=event_id,
        entity=entity,
        event_time=event_time,
        detection_time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        model_version=model_version,
        score=score,
        threshold=threshold.value,
        threshold_state="warming" if threshold.warming else "rolling",
        inversion=inversion,
        discriminator=discriminator,
        severity=_severity(score - threshold.value),
        contributions=_contributions(explanation),
    )


def _severity(excess: float) -> str:
    """How far above its threshold a score is, in nines, as a word."""
    return next((word for least, word in SEVERITIES if excess >= least), "warning")


def _decimals(scores: NDArray[np.float32]) -> list[float]:
    """Scores as the doubles their 6 significant digits name, so that what is compared is what is stored."""
    wide = scores.astype(np.float64)
    scale = 10.0 ** (5 - np.floor(np.log10(np.maximum(np.abs(wide), 1e-6))))
    rounded: list[float] = (np.round(wide * scale) / scale).tolist()
    return rounded


def _contributions(explanation: Explanation) -> tuple[Contribution, ...]:
    """The features of an explanation, the largest contribution first."""
    return tuple(Contribution(f.name, f.value, f.expected, f.contribution, f.direction) for f in explanation.features)
