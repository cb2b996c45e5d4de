"""The record road: consumed messages in, alerts and dead letters out; pure, no I/O.

    bytes -> decode -> score (normalise, invert, discriminate, calibrate, combine)
          -> threshold -> explain the flagged -> alert

What comes out is a function of each partition's log and the model alone. Messages of one
partition must come in offset order; how they are cut into batches does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from stream_detector.config import ThresholdConfig
from stream_detector.model import DetectorModel, Scores
from stream_detector.records import Alert, Contribution, DeadLetter, Decoded, Decoder, Message, raw
from stream_detector.scoring.explanation import Explanation
from stream_detector.scoring.threshold import Limits, RollingThreshold, Threshold

__all__ = ["Judged", "Outcome", "detect", "history", "limits"]

Place = tuple[str, int]

SEVERITIES = ((3.0, "critical"), (2.0, "major"), (1.0, "minor"))


@dataclass(frozen=True, slots=True)
class Judged:
    """Scored records in the order of the batch: partition and offset of each, and the scores [record]."""

    places: list[Place]
    offsets: list[int]
    scores: Scores


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where every record of a batch ended: `normal + len(alerts) + len(dead_letters)` = records.

    A message of many records that cannot be used is one dead letter.
    """

    alerts: tuple[Alert, ...]
    dead_letters: tuple[DeadLetter, ...]
    normal: int
    judged: tuple[Judged, ...] = ()

    @property
    def records(self) -> int:
        """All of them."""
        return self.normal + len(self.alerts) + len(self.dead_letters)


def detect(
    messages: Sequence[Message],
    model: DetectorModel,
    thresholds: Mapping[Place, RollingThreshold],
    decoder: Decoder,
) -> Outcome:
    """Judges a batch; moves the thresholds of its partitions forward.

    `thresholds` holds one for every (topic, partition) in the batch.
    """
    decoded = decoder.decode([raw(m.value()) for m in messages], model.schema)
    scores = model.score(decoded.features)
    places = [(message.topic() or "", message.partition() or 0) for message in messages]
    places = [places[position] for position in decoded.kept]
    flagged = _flag(places, scores, thresholds)
    explanations = model.explain(decoded.features[list(flagged)]) if flagged else []
    alerts = tuple(
        _alert(messages[decoded.kept[row]], decoded, row, scores, threshold, explanation, model.version, decoder)
        for (row, threshold), explanation in zip(flagged.items(), explanations, strict=True)
    )
    dead_letters = tuple(DeadLetter.of(messages[position], why) for position, why in sorted(decoded.rejected.items()))
    offsets = [messages[position].offset() or 0 for position in decoded.kept]
    return Outcome(alerts, dead_letters, len(decoded.kept) - len(alerts), (Judged(places, offsets, scores),))


def history(messages: Sequence[Message], model: DetectorModel, decoder: Decoder) -> list[float]:
    """Scores of the usable records, in order, for a threshold window; nothing is judged."""
    decoded = decoder.decode([raw(m.value()) for m in messages], model.schema)
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
    places: Sequence[Place], scores: Scores, thresholds: Mapping[Place, RollingThreshold]
) -> dict[int, Threshold]:
    """Rows whose score exceeds its threshold, with that threshold."""
    decimals = _decimals(scores.anomaly)
    flagged: dict[int, Threshold] = {}
    start = 0
    for place, run in groupby(places):
        end = start + sum(1 for _ in run)
        found = thresholds[place].flag(decimals[start:end])
        flagged |= {start + at: threshold for at, threshold in found.items()}
        start = end
    return flagged


def _alert(
    message: Message,
    decoded: Decoded,
    row: int,
    scores: Scores,
    threshold: Threshold,
    explanation: Explanation,
    model_version: str,
    decoder: Decoder,
) -> Alert:
    event_id, entity, event_time = decoder.identity(decoded.documents[row])
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
        row=decoded.rows[row] if decoded.rows else None,
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
    return tuple(Contribution(*feature) for feature in explanation.features)
