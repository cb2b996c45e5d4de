"""What librdkafka tells only between the lines: who we are to the group, and what its connections went through."""

import struct

import orjson

__all__ = ["connection_faults", "is_member"]

METADATA = b"CGMDv2:"


def connection_faults(stats: str) -> tuple[int, int]:
    """How often connections to brokers were lost, and requests timed out; zeros when not told."""
    try:
        brokers = orjson.loads(stats)["brokers"].values()
        return sum(each["disconnects"] for each in brokers), sum(each["req_timeouts"] for each in brokers)
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0, 0


def is_member(membership: bytes | None) -> bool:
    """Whether group metadata names a live member: the broker does not check a generation of -1.

    The form is librdkafka's own (`CGMDv2:`, generation, group, member); another one passes unchecked.
    """
    if not membership:
        return False
    if not membership.startswith(METADATA):
        return True
    head = len(METADATA)
    try:
        (generation,) = struct.unpack_from("=i", membership, head)
        _group, member, *_rest = membership[head + 4 :].split(b"\0")
    except (struct.error, ValueError):
        return True
    return generation >= 0 and bool(member)
