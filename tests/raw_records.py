"""Records as bytes on the wire: what no client lets one write, such as a header name that is no text.

A Produce request (version 7) with one record batch (format 2), as the protocol's guide describes them.
"""

import random
import socket
import struct
from dataclasses import dataclass

POLYNOMIAL = 0x82F63B78  # of CRC-32C, reflected
SPAN = 2**64


@dataclass(frozen=True)
class RawRecord:
    """Any bytes anywhere; `timestamp` is any signed number of 64 bits."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[bytes, bytes | None], ...] = ()
    timestamp: int = 0


def write(config, topic, records, partition=0, codec=0, compress=bytes):
    """Writes records to a partition in one request, compressed with Kafka's codec of that number; the broker must take them."""
    batch = _batch(records, codec, compress)
    name = topic.encode()
    body = struct.pack(">hhiih", -1, -1, 30_000, 1, len(name)) + name  # no transaction; all replicas acknowledge
    body += struct.pack(">iii", 1, partition, len(batch)) + batch
    request = struct.pack(">hhih", 0, 7, 1, -1) + body  # Produce, version, correlation, no client id
    host, _, port = config.kafka.bootstrap_servers.split(",")[0].rpartition(":")
    with socket.create_connection((host, int(port)), 30) as connection, connection.makefile("rwb") as stream:
        stream.write(struct.pack(">i", len(request)) + request)
        stream.flush()
        (length,) = struct.unpack(">i", stream.read(4))
        answer = stream.read(length)
    (error,) = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(name) + 4 + 4)
    assert error == 0, f"the broker refused the records: error {error}"


def _batch(records, codec, compress):
    first, most = records[0].timestamp, max(record.timestamp for record in records)
    encoded = b"".join(_record(at, record, _signed(record.timestamp - first)) for at, record in enumerate(records))
    checked = struct.pack(">hiqqqhii", codec, len(records) - 1, first, most, -1, -1, -1, len(records))
    checked += compress(encoded)
    following = struct.pack(">ibI", -1, 2, _crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(following)) + following


def _record(at, record, later):
    headers = b"".join(_sized(name) + _sized(content) for name, content in record.headers)
    body = b"\0" + _number(later) + _number(at) + _sized(record.key) + _sized(record.value)
    return _sized(body + _number(len(record.headers)) + headers)


def _sized(content):
    return _number(-1) if content is None else _number(len(content)) + content


def _number(value):
    """A signed number in as few bytes as it takes, seven bits each."""
    left = (value << 1 ^ value >> 63) % SPAN
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def _signed(value):
    return (value + SPAN // 2) % SPAN - SPAN // 2


def _table():
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = entry >> 1 ^ (POLYNOMIAL if entry & 1 else 0)
        yield entry


TABLE = tuple(_table())


def _crc32c(content):
    check = 0xFFFFFFFF
    for byte in content:
        check = TABLE[(check ^ byte) & 0xFF] ^ check >> 8
    return check ^ 0xFFFFFFFF


NAMES = (b"__connect.errors.topic", b"__connect.errors.exception.class.name", b"stream-detector.lost", b"trace", b"")
TIMES = (0, 0, -1, -5, 1, 2**63 - 1, -(2**63), 253_402_300_800_000, 1_700_000_000_000)


def hostile(rng: random.Random, good: bytes) -> RawRecord:
    """A record of random bytes; one in five has a `good` value."""
    return RawRecord(
        value=rng.choice((good, None, _some(rng, 40), good[:-1] + b"\xff}", good[: rng.randrange(len(good))])),
        key=rng.choice((None, b"", _some(rng, 20))),
        headers=tuple(_header(rng) for _ in range(rng.choice((0, 0, 1, 2, 5)))),
        timestamp=rng.choice((*TIMES, _signed(rng.getrandbits(64)))),
    )


def _header(rng):
    name = rng.choice((_some(rng, 8), rng.choice(NAMES), rng.choice(NAMES) + b"\0" + _some(rng, 3)))
    return name, rng.choice((None, b"", _some(rng, 30)))


def _some(rng, most):
    return rng.randbytes(rng.randint(1, most))
