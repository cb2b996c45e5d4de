"""Makes the decoder for a configuration; the one of Avro needs an extra package, so it is loaded only when asked for."""

from stream_detector.config import RecordConfig
from stream_detector.errors import ConfigError
from stream_detector.records import Decoder

__all__ = ["decoder"]


def decoder(config: RecordConfig) -> Decoder:
    """Reads records of the configured format; raises `ConfigError` when it needs a package that is not there."""
    if config.format != "avro":
        return Decoder(config)
    try:
        from stream_detector.kafka.avro import AvroReader  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(f"record.format: avro needs {error.name}; pip install 'stream-detector[avro]'") from None
    return Decoder(config, AvroReader(config))
