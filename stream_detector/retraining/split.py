"""Cuts a window by time: train, selection, calibration, hold-out, the newest records last.

A model is calibrated and tried on records later than those it learnt from, as it will be used. To
calibrate, the tail of the normal records must be there: a share `target_alert_rate` of them has an
alert by definition, and without those every model would flag more than the one before. So doubt
takes at most target / slack of the records calibrated and tried on, and that the rolling threshold
can make up for; from those learnt from, all that is doubtful is taken.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_detector.config import Config
from stream_detector.errors import DataError
from stream_detector.retraining.normal import AlertLabels, doubtful, excluded, marked, over_share, strongest
from stream_detector.retraining.telemetry_window import TelemetryRecord

__all__ = ["GuardBand", "Records", "WindowSplit", "split_window"]

CUTS = (0.6, 0.7, 0.85)  # where train, selection and calibration end
NAMES = ("train", "selection", "calibration", "holdout")

Records = Sequence[TelemetryRecord]


@dataclass(frozen=True, slots=True)
class GuardBand:
    """The champion's scores [record], and the score beyond which a record is not learnt from, in nines."""

    scores: NDArray[np.float32]
    limit: float


@dataclass(frozen=True, slots=True)
class WindowSplit:
    """Normal records by use, in order of time, and how many were left out for each reason."""

    train: Records
    selection: Records
    calibration: Records
    holdout: Records
    left_out: Mapping[str, int]

    def sizes(self) -> dict[str, int]:
        """Records in each part, by its name."""
        return {name: len(getattr(self, name)) for name in NAMES}


def split_window(records: Records, labels: AlertLabels, band: GuardBand | None, config: Config) -> WindowSplit:
    """Splits the normal records of a window, in order of time, into four parts.

    `band` goes with `records`; None without a champion. Raises `DataError` when fewer than
    `retrain.least_records` remain.
    """
    settings, threshold = config.retrain, config.threshold
    reasons = np.full(len(records), "", dtype=object)
    _leave_out(reasons, "excluded-interval", excluded(records, settings.exclude))
    _leave_out(reasons, "called-anomalous", marked(records, frozenset(labels.anomalous)))
    _leave_out(reasons, "entity-share", over_share(records, reasons == "", settings.entity_share))
    scores = None if band is None else band.scores
    doubted = doubtful(records, labels, scores, np.inf if band is None else band.limit)
    flagged = marked(records, labels.flagged)
    spared = threshold.target_alert_rate / threshold.slack
    sound = np.flatnonzero(reasons == "")
    parts = np.split(sound, [int(share * len(sound)) for share in CUTS])
    for part, most in zip(parts, (settings.most_doubtful, settings.most_doubtful, spared, spared), strict=True):
        taken = part[strongest(doubted[part], None if scores is None else scores[part], most)]
        reasons[taken] = np.where(flagged[taken], "flagged", "guard-band")
    left_out = dict(sorted(Counter(reason for reason in reasons if reason).items()))
    _require(int((reasons == "").sum()), len(records), left_out, config)
    train, selection, calibration, holdout = ([records[at] for at in part if not reasons[at]] for part in parts)
    return WindowSplit(train, selection, calibration, holdout, left_out)


def _leave_out(reasons: NDArray[np.object_], reason: str, dropped: NDArray[np.bool_]) -> None:
    reasons[dropped & (reasons == "")] = reason


def _require(kept: int, read: int, left_out: Mapping[str, int], config: Config) -> None:
    least = config.retrain.least_records
    if kept < least:
        why = ", ".join(f"{reason} {count:,}" for reason, count in left_out.items()) or "nothing left out"
        raise DataError(
            f"{kept:,} normal records of {', '.join(config.topics.telemetry)} remain of {read:,} ({why}), "
            f"retrain.least_records is {least:,}; widen the window or wait for more"
        )
