"""The sweet spot, studied where the truth is known.

A plain GAN is trained on samples of a known distribution. At every measured step its discriminator
has to tell anomalies of growing size from held-out samples, and so has the density itself. No detector beats
the density but by chance: the difference is what the discriminator does not know.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from stream_detector.errors import ConfigError
from stream_detector.features import FeatureSchema
from stream_detector.gan.networks import ARCHITECTURES, Gan
from stream_detector.gan.settings import Architecture, ModelSettings
from stream_detector.gan.training import TrainingSet
from stream_detector.scaling import learn_scales
from stream_detector.tracking.adversarial import train_adversarially
from stream_detector.tracking.detection import Probe
from stream_detector.tracking.distributions import Distribution, distribution
from stream_detector.tracking.plots import save_plots
from stream_detector.tracking.run_directory import RunDirectory, fingerprint
from stream_detector.tracking.sweet_spot import SweetSpot
from stream_detector.tracking.tracker import Tracker

__all__ = ["Finding", "StudySettings", "study"]

MEASUREMENTS = 40
HELD_OUT = 1000  # records beside those trained on


@dataclass(frozen=True, slots=True)
class StudySettings:
    """The subject of a study: names as in `DISTRIBUTIONS` and `ARCHITECTURES`, numbers of features, of
    training records and of training steps.
    """

    distribution: str = "correlated"
    architecture: Architecture = "mlp"
    features: int = 2
    records: int = 5000
    steps: int = 4000

    @classmethod
    def checked(cls, name: str, architecture: str, features: int, records: int, steps: int) -> "StudySettings":
        """Settings whose names are known; raises `ConfigError` otherwise."""
        distribution(name)
        if architecture not in ARCHITECTURES:
            raise ConfigError(f"architecture {architecture!r} is not known; give one of {', '.join(ARCHITECTURES)}")
        return cls(name, cast("Architecture", architecture), features, records, steps)

    @classmethod
    def from_run(cls, run: RunDirectory) -> "StudySettings":
        """The settings that `run` was made with; raises `ConfigError` when it is no study."""
        kept = run.description["configuration"]
        if kept.keys() != {field.name for field in fields(cls)}:
            raise ConfigError(f"{run.path}: is not the run of a study; resume a fit with `fit --resume`")
        return cls(**kept)

    def to_dict(self) -> dict[str, str | int]:
        """The settings as JSON values, the inverse of `from_run`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """Area under the ROC curve for anomalies of one size: the discriminator's at the first step, at
    the sweet spot, where it is worst after that, and at the last step, and the known density's.
    """

    size: float
    first: float
    sweet_spot: float
    worst_after: float
    last: float
    density: float


def study(
    settings: StudySettings, seed: int, run: RunDirectory, progress: Callable[[int, int, str], None]
) -> tuple[SweetSpot, list[Finding]]:
    """Runs, or resumes, the study in `run`; returns the sweet spot, and a finding for each size of anomaly.

    Raises `ConfigError` for an unknown name and `ModelError` when the generator has collapsed.
    """
    known = distribution(settings.distribution)
    rng = np.random.default_rng(seed)
    learn, held = (
        known.sample(rows, settings.features, rng).astype(np.float32) for rows in (settings.records, HELD_OUT)
    )
    schema = FeatureSchema.numbered(settings.features)
    run.admit(settings.to_dict(), seed, fingerprint(learn, schema))
    normaliser = learn_scales(schema, learn, ("soft",))
    prepared = normaliser(learn)
    data = TrainingSet(*map(torch.from_numpy, (prepared.views, prepared.context, prepared.present)))
    probe = Probe.make(normaliser, data, learn, held, seed)
    tracker = Tracker(probe, _opinions(known), "verdict", _schedule(settings.steps), seed, run)
    train_adversarially(data, _networks(settings), seed, progress, tracker)
    spot = tracker.finish()
    save_plots(run)
    return spot, _findings(run, spot)


def _schedule(steps: int) -> tuple[int, ...]:
    """The steps to measure at, from the first to the last, as many in every factor of time."""
    return tuple(np.unique(np.round(np.geomspace(1, steps, MEASUREMENTS)).astype(int)).tolist())


def _networks(settings: StudySettings) -> ModelSettings:
    """One generator, as wide as the data: it could fit them, which is what confuses a discriminator."""
    return ModelSettings(
        architecture=settings.architecture,
        views=("soft",),
        members=1,
        latent=min(64, max(2, settings.features)),
        steps=settings.steps,
        batch=128,
        learning_rate=1e-3,
    )


def _opinions(known: Distribution) -> Callable[[Gan, Probe], dict[str, NDArray[np.float64]]]:
    """The discriminator's verdict, and the surprise of the known density."""

    @torch.inference_mode()
    def opinions(gan: Gan, probe: Probe) -> dict[str, NDArray[np.float64]]:
        logits, _ = gan.discriminate(probe.records.views, probe.records.context[None])
        with np.errstate(divide="ignore"):
            surprise = np.minimum(-known.log_pdf(probe.matrix.astype(np.float64)), 1e6)
        return {"verdict": logits[0, :, 0].numpy().astype(np.float64), "density": surprise}

    return opinions


def _findings(run: RunDirectory, spot: SweetSpot) -> list[Finding]:
    areas = {(row["opinion"], row["step"], row["size"]): row["auc"] for row in run.load_tables()["detection"]}
    first, last = spot.steps[0], spot.steps[-1]
    after = {area: step for step, area in zip(spot.steps, spot.measured, strict=True) if step >= spot.step}
    judged = [("verdict", step) for step in (first, spot.step, after[min(after)], last)] + [("density", last)]
    sizes = sorted({size for _, _, size in areas})
    return [Finding(size, *(areas[(*which, size)] for which in judged)) for size in sizes]
