"""What a value is by its first bytes, where it is not what it should be."""

__all__ = ["looks_like"]

WIRE_FORMAT = 5  # bytes before what it frames: 0, and the id of a schema

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


def looks_like(value: bytes) -> str | None:
    """What a value that is not JSON looks like, and what to do; None where its first bytes tell nothing."""
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
