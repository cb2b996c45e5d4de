"""GAN-based streaming anomaly detection for Kafka.

`fit` makes a `DetectorModel` from normal records; the model scores and explains others. Importing
this package needs no broker.
"""

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
