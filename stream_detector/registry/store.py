"""Keeps models on Kafka: a compacted topic of artifacts, and a pointer to the one that serves.

An artifact is a record with key `version/<SHA-256 of its bytes>`. It is acknowledged before the
pointer is written, so a pointer never names what is not there; a crash in between leaves an
artifact that nothing points to, and no harm.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Message

from stream_detector.config import Config
from stream_detector.errors import ModelFormatError, ModelNotFoundError, PointerMovedError
from stream_detector.kafka import reads, topics
from stream_detector.kafka.clients import MAX_MESSAGE_BYTES, send
from stream_detector.registry import model_pointer
from stream_detector.registry.model_pointer import (
    CURRENT,
    PARTITION,
    SHADOW,
    VERSION,
    Pointer,
    current,
    exclusive_writer,
    newest,
    read_pointer,
)

__all__ = [
    "MAX_ARTIFACT_BYTES",
    "NOTHING",
    "VersionInfo",
    "current",
    "fetch",
    "promote",
    "prune",
    "publish",
    "resolve",
    "rollback",
    "shadow",
    "store",
    "versions",
]

MAX_ARTIFACT_BYTES = MAX_MESSAGE_BYTES - 65_536  # room for the record's frame
MAX_TEXT = 500  # characters of `who` and `why`
NOTHING = ""
"""The version that somebody expects who saw that none serves."""
PREFIX = b"version/"
TIMEOUT = 60.0  # seconds for a record to be acknowledged
VERSION_PREFIX = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """Describes a published artifact: its size in bytes, when it was written (epoch ms), and whether it serves.

    A damaged one has other bytes than its version names, and is never handed out.
    """

    version: str
    size: int
    timestamp_ms: int
    current: bool
    damaged: bool = False


def store(config: Config, artifact: bytes) -> str:
    """Writes an artifact that nothing points to yet; returns its version.

    Raises `ModelFormatError` when it is empty or exceeds `MAX_ARTIFACT_BYTES`, and a `KafkaError`
    when it was not acknowledged.
    """
    if not 0 < len(artifact) <= MAX_ARTIFACT_BYTES:
        raise ModelFormatError(
            f"the artifact has {len(artifact):,} bytes; 1 to {MAX_ARTIFACT_BYTES:,} can be published"
        )
    version = hashlib.sha256(artifact).hexdigest()
    send(config.kafka, config.topics.models, _key(version), artifact, partition=PARTITION, timeout=TIMEOUT)
    return version


def publish(
    config: Config,
    artifact: bytes,
    who: str,
    why: str,
    *,
    expected: str | None = None,
    approved_by: str | None = None,
) -> Pointer:
    """Writes an artifact and points to it; returns the new pointer. Arguments and errors as `store` and `promote`.

    Nothing is written when another version serves already than the one expected.
    """
    _served(config, expected)
    return promote(config, store(config, artifact), who, why, expected=expected, approved_by=approved_by)


def promote(
    config: Config,
    version: str,
    who: str,
    why: str,
    *,
    expected: str | None = None,
    approved_by: str | None = None,
) -> Pointer:
    """Points to a version that was published before, once its bytes have proved sound.

    `expected` is the version that the caller saw serving (`NOTHING`: none); another one serving by
    now is a `PointerMovedError` that names both. `approved_by` is the person who decided, None for
    a program. Raises `ModelNotFoundError`, `ModelFormatError`, or a `KafkaError`; then the pointer
    has not moved.
    """
    with exclusive_writer(config) as writer:
        fetch(config, version)
        served = _served(config, expected)
        moved = _moved(served, version, who, why, approved_by)
        writer.point(CURRENT, moved)
    return moved


def rollback(
    config: Config,
    who: str,
    why: str,
    *,
    approved_by: str | None = None,
    check: Callable[[str], None] = lambda version: None,  # noqa: ARG005
) -> Pointer:
    """Points back to the version that served before; once more, and the pointer is where it was.

    `check` is given that version first, and may raise. Raises `ModelNotFoundError` when there is none before, and
    as `promote`.
    """
    served = current(config)
    if served is None or served.previous is None:
        raise ModelNotFoundError(
            f"topic {config.topics.models!r} knows no model before the one that serves; "
            "choose one with 'stream-detector models promote VERSION'"
        )
    check(served.previous)
    return promote(config, served.previous, who, why, expected=served.version, approved_by=approved_by)


def shadow(config: Config, version: str | None, who: str, why: str) -> None:
    """Has workers score a published version beside the one in force, None to end that; raises as `promote`."""
    topics.require(config.kafka, [config.topics.shadow])
    with exclusive_writer(config) as writer:
        if version is not None:
            fetch(config, version)
        writer.point(SHADOW, _moved(None, version, who, why, None) if version else None)


def prune(config: Config, keep: int) -> list[str]:
    """Deletes all versions but the newest `keep` sound ones and those that a pointer names; returns what went.

    A version deleted cannot be served, replayed or rolled back to any more.
    """
    with exclusive_writer(config) as writer:
        named = [pointer.versions for pointer in (current(config), model_pointer.shadow(config)) if pointer]
        found = versions(config)
        sound = [info.version for info in found if not info.damaged]
        spared = frozenset(sound[len(sound) - keep :] if keep else ()).union(*named)
        gone = [info.version for info in found if info.version not in spared]
        writer.erase(map(_key, gone))
    return gone


def fetch(config: Config, version: str) -> bytes:
    """Reads an artifact's bytes and verifies their SHA-256.

    Raises `ModelNotFoundError` when there is none of that version, `ModelFormatError` when
    `version` is not 64 hexadecimal digits or the bytes are not those that it names.
    """
    if not VERSION.fullmatch(version):
        raise ModelFormatError(f"model version {version!r:.80}: expected 64 hexadecimal digits")
    message = newest(config, _key(version))
    artifact = message.value() if message is not None else None
    if artifact is None:
        raise ModelNotFoundError(
            f"model version {version} is not on topic {config.topics.models!r}; see 'stream-detector models ls'"
        )
    if len(artifact) > MAX_ARTIFACT_BYTES:
        raise ModelFormatError(
            f"topic {config.topics.models!r}: the artifact of version {version} has {len(artifact):,} bytes, more than the "
            f"{MAX_ARTIFACT_BYTES:,} allowed"
        )
    if not _is(version, artifact):
        raise ModelFormatError(
            f"topic {config.topics.models!r}: the artifact of version {version} is damaged, its SHA-256 differs; "
            "publish it again with 'stream-detector models import FILE'"
        )
    return artifact


def versions(config: Config) -> list[VersionInfo]:
    """Lists all published versions, the oldest first; reads the whole topic, one batch in memory at a time."""
    served: str | None = None
    found: dict[str, tuple[int, int, bool]] = {}
    for message in _all(config):
        key, value = message.key() or b"", message.value()
        if key == CURRENT:
            with suppress(ModelFormatError):
                served = told.version if (told := read_pointer(message)) else None
        elif isinstance(key, bytes) and (version := _version(key)):
            found.pop(version, None)  # what was published again counts as new
            if value is not None:
                found[version] = len(value), message.timestamp()[1], not _is(version, value)
    return [VersionInfo(version, size, at, version == served, bad) for version, (size, at, bad) in found.items()]


def resolve(config: Config, text: str) -> str:
    """Finds the version that `text`, four or more of its first digits, names.

    Raises `ModelNotFoundError` when none or several begin so, `ModelFormatError` when it cannot be one.
    """
    if not VERSION_PREFIX.fullmatch(text):
        raise ModelFormatError(f"model version {text!r:.80}: expected 4 to 64 hexadecimal digits")
    matches = [info.version for info in versions(config) if info.version.startswith(text)]
    if len(matches) != 1:
        count = f"{len(matches)} versions begin" if matches else "no version begins"
        raise ModelNotFoundError(
            f"{count} with {text!r} on topic {config.topics.models!r}; see 'stream-detector models ls'"
        )
    return matches[0]


def _is(version: str, artifact: bytes) -> bool:
    return hashlib.sha256(artifact).hexdigest() == version


def _served(config: Config, expected: str | None) -> Pointer | None:
    """Reads the pointer; raises `PointerMovedError` when it is not the one expected."""
    served = current(config)
    serves = served.version if served else NOTHING
    if expected is not None and serves != expected:
        raise PointerMovedError(
            f"topic {config.topics.models!r}: model {serves or 'none'} serves by now, not {expected or 'none'}; "
            "somebody else was faster. Compare with it, then try again"
        )
    return served


def _moved(served: Pointer | None, version: str, who: str, why: str, approved_by: str | None) -> Pointer:
    """Makes the next pointer; pointing again to what serves keeps the way back."""
    previous = approved = None
    if served is not None:
        previous = served.previous if served.version == version else served.version
        approved = served.approved
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    approved = version if approved_by else approved
    first = served.first if served else version
    return Pointer(version, previous, who[:MAX_TEXT], when, why[:MAX_TEXT], approved_by, approved, first)


def _all(config: Config) -> Iterator[Message]:
    end = topics.end_offsets(config.kafka, [config.topics.models])[config.topics.models, PARTITION]
    for batch in reads.read(config.kafka, config.topics.models, PARTITION, 0, end):
        yield from batch


def _key(version: str) -> bytes:
    return PREFIX + version.encode()


def _version(key: bytes) -> str | None:
    text = key.removeprefix(PREFIX).decode("ascii", "replace")
    return text if key.startswith(PREFIX) and VERSION.fullmatch(text) else None
