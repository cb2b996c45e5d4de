"""What librdkafka tells only between the lines: who we are to the group, and what its coordinator went through."""

import json
import struct

__all__ = ["coordinator_faults", "is_member"]

METADATA = b"CGMDv2:"
COORDINATOR = "TxnCoordinator"  # librdkafka's name for the connection


def coordinator_faults(stats: str) -> tuple[int, int]:
    """How often the coordinator's connection was lost, and a request to it timed out; zeros when not told."""
    try:
        coordinator = json.loads(stats)["brokers"][COORDINATOR]
        return coordinator["disconnects"], coordinator["req_timeouts"]
    except (ValueError, KeyError, TypeError):
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
