"""The reasons why the bytes of a record cannot be used, found by looking at one record alone."""

from typing import Any

import orjson

from stream_detector.config import RecordConfig
from stream_detector.features import Rejection
from stream_detector.records.documents import Document

__all__ = ["parse_alone", "too_deep", "unfit"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WIRE_FORMAT = 5  # bytes before a framed record: 0, and the id of a schema
SIGNATURES = {
    b"\x1f\x8b": "gzip: compress by the producer's compression.type, not by hand",
    b"\x28\xb5\x2f\xfd": "zstd: compress by the producer's compression.type, not by hand",
    b"\x04\x22\x4d\x18": "lz4: compress by the producer's compression.type, not by hand",
    b"\x82SNAPPY": "snappy: compress by the producer's compression.type, not by hand",
    b"BZh": "bzip2: compress by the producer's compression.type, not by hand",
    b"\xfd7zXZ\x00": "xz: compress by the producer's compression.type, not by hand",
    b"PK\x03\x04": "a zip file: compress by the producer's compression.type, not by hand",
    b"\xff\xff\xff\xff": "an Arrow IPC stream: set record.format: arrow",
    b"\xff\xfe": "UTF-16 or UTF-32: write UTF-8",
    b"\xfe\xff": "UTF-16: write UTF-8",
    b"{\0": "UTF-16 or UTF-32: write UTF-8",
    b"\0{": "UTF-16: write UTF-8",
    b"\0\0\0{": "UTF-32: write UTF-8",
    b"\0\0\xfe\xff": "UTF-32: write UTF-8",
}


def parse_alone(value: bytes | None, config: RecordConfig) -> Document | Rejection:
    """Parses one JSON value to an object; a value that cannot be used to the reason, with advice where it is known."""
    if reason := unfit(value, config):
        return reason
    text = (value or b"").removeprefix(BYTE_ORDER_MARK)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        found = _looks_like(text)
        return Rejection("undecodable", f"not JSON; looks like {found}" if found else f"not JSON: {error}")
    if not isinstance(document, dict):
        return Rejection("not-an-object", f"the record is a JSON {type(document).__name__}, expected an object")
    return too_deep(document, config) or document


def unfit(value: bytes | None, config: RecordConfig) -> Rejection | None:
    """The reason why a value is not even parsed, in any format; None when it is parsed."""
    if value is None:
        return Rejection("tombstone", "the record has no value")
    if len(value) > config.max_bytes:
        return Rejection("too-large", f"the record has {len(value):,} bytes, limit {config.max_bytes:,}")
    return None


def too_deep(document: Document, config: RecordConfig) -> Rejection | None:
    """The reason when objects and arrays nest deeper than `record.max_depth`; None when they do not."""
    if _deeper(document, config.max_depth):
        return Rejection("too-deep", f"objects and arrays nest deeper than {config.max_depth}")
    return None


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(part, levels - 1) for part in inner)


def _looks_like(value: bytes) -> str | None:
    """Says what a value that is not JSON looks like, and what to do; None where its first bytes tell nothing."""
    for signature, what in SIGNATURES.items():
        if value.startswith(signature):
            return what
    if value[:1] == b"\0" and len(value) > WIRE_FORMAT:
        schema = int.from_bytes(value[1:WIRE_FORMAT])
        return (
            f"Confluent's wire format (schema id {schema}): set record.format: avro, or use a JSON serializer "
            "without schema id"
        )
    return None
