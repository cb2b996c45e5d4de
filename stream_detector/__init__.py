"""GAN-based streaming anomaly detection for Kafka.

`fit` makes a `DetectorModel` from normal records; the model scores and explains others. Importing
this package needs no broker, and loads torch only when one of its names is first used: programs
that only read alerts or feed telemetry start without it.
"""

import os

TYPE_CHECKING = False  # as typing has it, which takes longer to load than all of this
PROCESS = os.getpid()  # who imported this package; another one was forked from it

if TYPE_CHECKING:
    from stream_detector.features import Feature, FeatureSchema, Kind
    from stream_detector.fitting.fit import fit
    from stream_detector.gan.settings import InversionSettings, ModelConfig, ModelSettings
    from stream_detector.model import DetectorModel, Scores
    from stream_detector.scoring.explanation import Explanation, FeatureExplanation

__all__ = [
    "DetectorModel",
    "Explanation",
    "Feature",
    "FeatureExplanation",
    "FeatureSchema",
    "InversionSettings",
    "Kind",
    "ModelConfig",
    "ModelSettings",
    "Scores",
    "fit",
]

HOMES = {
    **dict.fromkeys(("Feature", "FeatureSchema", "Kind"), "features"),
    **dict.fromkeys(("InversionSettings", "ModelConfig", "ModelSettings"), "gan.settings"),
    **dict.fromkeys(("DetectorModel", "Scores"), "model"),
    **dict.fromkeys(("Explanation", "FeatureExplanation"), "scoring.explanation"),
    "fit": "fitting.fit",
}


def __getattr__(name: str) -> object:
    from importlib import import_module  # noqa: PLC0415 - most programs never come here

    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
