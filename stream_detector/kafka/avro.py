"""Reads Avro records, framed and registered as Confluent's Schema Registry does it, by confluent-kafka's deserializer."""

import sys
from collections.abc import Sequence
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, dual_schema_id_deserializer
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.error import SchemaRegistryError as Refusal

from stream_detector.config import RecordConfig
from stream_detector.errors import ConfigError, SchemaRegistryError
from stream_detector.features import Rejection
from stream_detector.foreign import without_credentials
from stream_detector.records.avro_claims import AvroClaims
from stream_detector.records.documents import Document
from stream_detector.records.unusable import too_deep, unfit

__all__ = ["AvroReader"]

UNKNOWN = 404  # the registry's answer when it has no such schema
FRAMES = {b"\0": 4, b"\1": 16}
"""Bytes of a schema's id, or its GUID, by the byte before them."""
DEFAULTS = {"timeout": 10, "max.retries": 5}


class AvroReader:
    """Parses values by the schema that each one names; a schema is fetched once.

    The client is made from the configuration unless given. Raises `ConfigError` for settings that it refuses.
    """

    def __init__(self, config: RecordConfig, client: SchemaRegistryClient | None = None) -> None:
        self._address = config.registry_url
        self._deserialize = _Careful(client or _client(config), config)

    def __call__(self, values: Sequence[bytes | None], config: RecordConfig) -> list[Document | Rejection]:
        """Gives an object for each value, or says why it holds none. Raises `SchemaRegistryError` when the registry does not answer."""
        return [unfit(value, config) or self._parse(value, config) for value in values]

    def _parse(self, value: bytes | None, config: RecordConfig) -> Document | Rejection:
        try:
            document: Any = self._deserialize(value)
        except _Refused as error:
            reason: Rejection = error.args[0]
            return reason
        except Refusal as error:
            if error.http_status_code != UNKNOWN:
                raise self._trouble(error) from None
            return Rejection("undecodable", "the Schema Registry has no schema of the id that the record names")
        except Exception as error:  # noqa: BLE001 - whatever crafted bytes can make a parser raise
            if type(error).__module__.startswith("httpx"):  # the client's own, never the record's fault
                raise self._trouble(error) from None
            return Rejection("undecodable", _unframed(value or b"") or f"not Avro of its schema: {error}")
        if not isinstance(document, dict):
            return Rejection("not-an-object", f"the record is an Avro {type(document).__name__}, expected a record")
        return too_deep(document, config) or document

    def _trouble(self, error: Exception) -> SchemaRegistryError:
        return SchemaRegistryError(
            f"Schema Registry {without_credentials(f'{self._address}: {error}')}; check record.registry_url and its credentials"
        )


def _unframed(value: bytes) -> str | None:
    """Says what is wrong with a value that names no schema; None where one is named."""
    if len(value) > FRAMES.get(value[:1], sys.maxsize):
        return None
    if value.lstrip()[:1] == b"{":
        return "looks like JSON: set record.format: json"
    return f"names no schema: {len(value):,} bytes that begin with 0x{value[:4].hex()}, expected 0x00 and four bytes of an id"


class _Careful(AvroDeserializer):
    """Looks at what a value claims to hold between finding its schema and reading it; raises `_Refused`."""

    def __init__(self, client: SchemaRegistryClient, config: RecordConfig) -> None:
        super().__init__(client, conf={"schema.id.deserializer": self._payload_of})
        self._config = config
        self._claims: dict[int, AvroClaims] = {}
        self._payload = b""

    def _payload_of(self, value: bytes, context: Any, schema_id: Any) -> Any:
        payload = dual_schema_id_deserializer(value, context, schema_id)
        self._payload = value[payload.tell() :]
        return payload

    def _get_parsed_schema(self, schema: Schema) -> Any:
        parsed: Any = super()._get_parsed_schema(schema)
        claims = self._claims.get(id(parsed))
        if claims is None:
            claims = self._claims[id(parsed)] = AvroClaims(parsed)
        if not claims.are_bounded and (reason := claims.refusal(self._payload, self._config)):
            raise _Refused(reason)
        return parsed


class _Refused(Exception):  # noqa: N818 - not an error but a way out of a value
    """Carries the reason out of the deserializer."""


def _client(config: RecordConfig) -> SchemaRegistryClient:
    settings: dict[str, Any] = {**DEFAULTS, **config.registry_properties, "url": config.registry_url}
    if config.registry_user_info is not None:
        settings["basic.auth.user.info"] = config.registry_user_info.get_secret_value()
    try:
        return SchemaRegistryClient.new_client(settings)
    except (ValueError, TypeError, OSError) as error:  # a file that is not there, or is no certificate
        raise ConfigError(
            f"record.registry_url, record.registry_properties: {without_credentials(str(error))}"
        ) from None
