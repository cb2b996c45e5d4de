"""The gate: the checks that a challenger must pass before it replaces the champion.

Every check is a figure with its limits, and all are reported, passed or failed. A check may lack what it
needs, as a champion at first: then it is not made, and the report says why.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_detector.config.retrain_section import GateSettings
from stream_detector.retraining.contender import Contender
from stream_detector.retraining.reference import Reference
from stream_detector.tracking.synthetic import SIZES, Spread, displaced

__all__ = [
    "HOLDOUT",
    "KNOWN",
    "Check",
    "GateResult",
    "Trial",
    "Unchecked",
    "failures",
    "run_checks",
    "threshold_move",
]

HOLDOUT, KNOWN = "holdout", "known"
"""Parts of a trial whose records stand in a log, so that they have contexts."""
ALONE = ", each record alone"

TRIED = 2_000  # hold-out records that synthetic anomalies are told from
NEEDS = {
    "synthetic-auc-champion": ("champion",),
    "feedback-detection": ("champion", "known"),
    "reference-auc": ("reference",),
    "reference-detection": ("champion", "reference"),
    "reference-detection-approved": ("approved", "reference"),
    "threshold-move": ("champion",),
    "threshold-move-approved": ("champion", "approved"),
}
LACKING = {
    "champion": "no model is in force yet",
    "approved": "no model is there that a person approved, or that was the first",
    "known": "no anomaly confirmed by feedback is retained",
    "reference": "retrain.gate.reference names no reference set",
}
MOVED = 512  # synthetic anomalies of each size
SPREAD_OF_COUNTS = 3.0  # standard deviations by which a rare count may miss a limit by chance

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, and the limits it must keep; None = no limit on that side."""

    name: str
    figure: float
    least: float | None
    most: float | None
    meaning: str

    @property
    def passed(self) -> bool:
        """Tells whether the figure keeps its limits; NaN does not."""
        return (
            self.figure == self.figure
            and (self.least is None or self.figure >= self.least)
            and (self.most is None or self.figure <= self.most)
        )


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A check that could not be made, and what it lacked."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """All checks of one challenger, and those that could not be made."""

    checks: tuple[Check, ...]
    unchecked: tuple[Unchecked, ...] = ()

    @property
    def passed(self) -> bool:
        """Tells whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    def to_dict(self) -> list[dict[str, Any]]:
        """The checks as JSON values."""
        return [
            {**asdict(check), "figure": check.figure if np.isfinite(check.figure) else None, "passed": check.passed}
            for check in self.checks
        ]


@dataclass(frozen=True, slots=True)
class Trial:
    """The data that contenders are tried on, in the challenger's schema: hold-out records [record,
    feature], which have contexts as the known ones do, where these are in the window; anomalies that a person has confirmed, the reference set, the target alert rate, and in
    words what the model is that the `-approved` checks compare with.
    """

    holdout: Matrix
    known: Matrix
    reference: Reference | None
    target: float
    seed: int
    since: str = "the model that a person approved last"


def run_checks(
    challenger: Contender, champion: Contender | None, approved: Contender | None, trial: Trial, settings: GateSettings
) -> GateResult:
    """Makes all checks that can be made; `approved` is the model that a person approved last, or what stands for it."""
    checks = [
        *_alert_rate(challenger, trial, settings),
        *_synthetic(challenger, champion, trial, settings),
        _coverage(challenger, trial, settings),
    ]
    if champion is not None:
        checks += _known(challenger, champion, trial, settings)
    checks += _reference(challenger, champion, approved, trial, settings)
    if champion is not None:
        checks += _moves(challenger, champion, approved, trial, settings)
    given = {"champion": champion, "approved": approved, "known": len(trial.known), "reference": trial.reference}
    return GateResult(tuple(checks), tuple(_unchecked({name for name, what in given.items() if what})))


def threshold_move(challenger: Contender, other: Contender, holdout: Matrix) -> float:
    """The distance that the other model's threshold would have to move, in its nines, to flag as many of the
    hold-out as the challenger does; above 0 = more is let through.
    """
    share = max(challenger.flagged(holdout, HOLDOUT), 1 / (len(holdout) + 1))
    return float(np.quantile(other.scores(holdout, HOLDOUT), 1 - share)) - other.threshold


def _alert_rate(challenger: Contender, trial: Trial, settings: GateSettings) -> list[Check]:
    rate = challenger.flagged(trial.holdout, HOLDOUT)
    low, high = trial.target / settings.rate_factor, trial.target * settings.rate_factor
    chance = [SPREAD_OF_COUNTS * float(np.sqrt(each / max(len(trial.holdout), 1))) for each in (low, high)]
    return [
        Check(
            "holdout-alert-rate",
            rate,
            max(0.0, low - chance[0]),
            high + chance[1],
            f"share of the {len(trial.holdout):,} hold-out records flagged, target {trial.target:g}",
        )
    ]


def _synthetic(challenger: Contender, champion: Contender | None, trial: Trial, settings: GateSettings) -> list[Check]:
    rng = np.random.default_rng((trial.seed, 2))
    normal = trial.holdout[:TRIED]
    spread = Spread.of(challenger.schema, normal)
    context = [feature.context for feature in challenger.schema.features]
    moved = [displaced(_some(normal, rng), spread, context, size, rng) for size in SIZES]
    area = challenger.area(normal, moved)
    meaning = f"synthetic anomalies told from the hold-out{_alone(challenger, champion)}"
    absolute = Check("synthetic-auc", area, settings.least_auc, None, meaning)
    if champion is None:
        return [absolute]
    least = champion.area(normal, moved) - settings.auc_margin
    return [absolute, Check("synthetic-auc-champion", area, least, None, "the same, against the champion's")]


def _coverage(challenger: Contender, trial: Trial, settings: GateSettings) -> Check:
    return Check(
        "generator-coverage",
        challenger.coverage(trial.holdout, trial.seed),
        settings.least_coverage,
        None,
        "hold-out records that generated ones come near, the worst generator's",
    )


def _known(challenger: Contender, champion: Contender, trial: Trial, settings: GateSettings) -> list[Check]:
    if not len(trial.known):
        return []
    least = champion.flagged(trial.known, KNOWN) - settings.detection_margin
    meaning = (
        f"share of the {len(trial.known):,} anomalies confirmed by feedback that is flagged, against the champion's"
    )
    return [Check("feedback-detection", challenger.flagged(trial.known, KNOWN), least, None, meaning)]


def _reference(
    challenger: Contender,
    champion: Contender | None,
    approved: Contender | None,
    trial: Trial,
    settings: GateSettings,
) -> list[Check]:
    if trial.reference is None:
        return []
    matrix = trial.reference.matrix(challenger.schema)
    anomalous, normal = matrix[trial.reference.anomalous], matrix[~trial.reference.anomalous]
    detection, area = challenger.flagged(anomalous), challenger.area(normal, [anomalous])
    meaning = f"reference anomalies told from reference normals{_alone(challenger, champion)}"
    checks = [Check("reference-auc", area, settings.least_auc, None, meaning)]
    if champion is not None:
        least = champion.flagged(anomalous) - settings.detection_margin
        meaning = "share of the reference anomalies flagged, against the champion's"
        checks.append(Check("reference-detection", detection, least, None, meaning))
    if approved is not None:
        least = settings.kept_since_approval * approved.flagged(anomalous)
        meaning = f"the same, against {trial.since}"
        checks.append(Check("reference-detection-approved", detection, least, None, meaning))
    return checks


def _moves(
    challenger: Contender, champion: Contender, approved: Contender | None, trial: Trial, settings: GateSettings
) -> list[Check]:
    meaning = "move of the threshold against the champion, nines; above 0 = more is let through"
    limit = settings.threshold_move
    checks = [Check("threshold-move", threshold_move(challenger, champion, trial.holdout), -limit, limit, meaning)]
    if approved is not None:
        limit = settings.threshold_move_since_approval
        meaning = f"the same against {trial.since}"
        move = threshold_move(challenger, approved, trial.holdout)
        checks.append(Check("threshold-move-approved", move, -limit, limit, meaning))
    return checks


def _unchecked(given: Collection[str]) -> Iterator[Unchecked]:
    for name, needs in NEEDS.items():
        if lacking := [LACKING[need] for need in needs if need not in given]:
            yield Unchecked(name, "; ".join(lacking))


def _alone(*contenders: Contender | None) -> str:
    """What is to be said of records that stand in no log, where a model would judge them by their contexts, too."""
    return ALONE if any(each and each.model.context for each in contenders) else ""


def _some(normal: Matrix, rng: np.random.Generator) -> Matrix:
    rows: Matrix = normal[rng.integers(len(normal), size=MOVED)]
    return rows


def failures(verdict: GateResult) -> list[str]:
    """One phrase for every check that failed."""
    return [f"{check.name} is {check.figure:.3g}, must be {_limits(check)}" for check in verdict.failed]


def _limits(check: Check) -> str:
    least = f"at least {check.least:.3g}" if check.least is not None else ""
    most = f"at most {check.most:.3g}" if check.most is not None else ""
    return " and ".join(filter(None, (least, most)))
