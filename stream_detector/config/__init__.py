"""The configuration: one YAML file, validated whole before anything is opened.

Environment variables override the file: `STREAM_DETECTOR_<SECTION>__<KEY>`, for example
`STREAM_DETECTOR_KAFKA__BOOTSTRAP_SERVERS`. Secrets belong there, or in a file named by
`kafka.properties`, or come by `${NAME}`. Whatever is wrong is told by file, line and key, and shows no secret.
"""

from stream_detector.config.context_section import ContextConfig
from stream_detector.config.document import Key
from stream_detector.config.loading import load_config
from stream_detector.config.sections import (
    DriftConfig,
    KafkaConfig,
    LogConfig,
    MetricsConfig,
    RecordConfig,
    ThresholdConfig,
    TopicsConfig,
    WorkerConfig,
)
from stream_detector.config.whole import Config

__all__ = [
    "Config",
    "ContextConfig",
    "DriftConfig",
    "KafkaConfig",
    "Key",
    "LogConfig",
    "MetricsConfig",
    "RecordConfig",
    "ThresholdConfig",
    "TopicsConfig",
    "WorkerConfig",
    "load_config",
]
