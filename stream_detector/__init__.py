"""GAN-based streaming anomaly detection for Kafka.

`fit` makes a `DetectorModel` from normal records; the model scores and explains others. Importing
this package needs no broker, and loads torch only when one of its names is first used: programs
that only read alerts or feed telemetry start without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stream_detector import host as host  # it notes when this process is forked: from here on

if TYPE_CHECKING:
    from stream_detector.features import Feature, FeatureSchema, Kind
    from stream_detector.fitting import fit
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
    "fit": "fitting",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
