"""The whole configuration: all sections, and what the environment overrides."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stream_detector.config.context_section import ContextConfig
from stream_detector.config.incident_section import IncidentConfig
from stream_detector.config.retrain_section import RetrainSettings
from stream_detector.config.rules_section import RuleConfig
from stream_detector.config.sections import (
    DriftConfig,
    FeatureConfig,
    KafkaConfig,
    LogConfig,
    MetricsConfig,
    RecordConfig,
    ThresholdConfig,
    TopicsConfig,
    WorkerConfig,
)
from stream_detector.errors import ConfigError
from stream_detector.features import FeatureSchema, Kind
from stream_detector.gan.settings import InversionSettings, ModelSettings

__all__ = ["ENVIRONMENT_PREFIX", "Config"]

ENVIRONMENT_PREFIX = "STREAM_DETECTOR_"


class Config(BaseSettings):
    """The whole configuration; every section has defaults, `features` is learnt when left out."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
    )

    kafka: KafkaConfig = KafkaConfig()
    topics: TopicsConfig = TopicsConfig()
    record: RecordConfig = RecordConfig()
    features: tuple[FeatureConfig, ...] = ()
    """The features to judge, in any order; empty = those of the model."""
    exclude: tuple[str, ...] = ()
    """Names that are no features, whatever the records hold."""
    model: ModelSettings = ModelSettings()
    inversion: InversionSettings = InversionSettings()
    context: ContextConfig = ContextConfig()
    threshold: ThresholdConfig = ThresholdConfig()
    worker: WorkerConfig = WorkerConfig()
    drift: DriftConfig = DriftConfig()
    retrain: RetrainSettings = RetrainSettings()
    incidents: IncidentConfig = IncidentConfig()
    rules: tuple[RuleConfig, ...] = ()
    """What is told of incidents, in the order in which they are asked."""
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    seed: int = Field(0, ge=0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; nothing else is read."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _vectors_are_numbers(self) -> Self:
        if self.record.format == "float32":
            for feature in self.features:
                if feature.kind is Kind.CATEGORICAL:
                    raise ValueError(
                        f"record.format float32 has no categories, but feature {feature.name!r} is one; use another format"
                    )
        return self

    @model_validator(mode="after")
    def _features_make_a_schema(self) -> Self:
        try:
            self.declared_schema  # noqa: B018 - made to see whether it can be
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _nothing_is_both(self) -> Self:
        if both := sorted({feature.name for feature in self.features} & set(self.exclude)):
            raise ValueError(f"{both[0]!r} stands under 'features:' and under 'exclude:'; keep one")
        return self

    @property
    def declared_schema(self) -> FeatureSchema | None:
        """The declared features, None when they are to be learnt from the data."""
        return FeatureSchema(tuple(f.to_feature() for f in self.features)) if self.features else None
