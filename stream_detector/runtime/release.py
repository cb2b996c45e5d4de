"""The name of the code that runs: its version, and a digest of its sources.

Two releases may compute the last bits of a score differently under one model version. So what a worker commits names
the release that it was judged by.
"""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["release", "release_of_sources"]

ENGINE = Path(__file__).parents[1]
DIGITS = 12  # of the digest, hexadecimal


@cache
def release() -> str:
    """Names the running code, such as `0.1.0+3f2a91c04b7d`; the same name means the same sources."""
    return release_of_sources(ENGINE)


def release_of_sources(engine: Path) -> str:
    """Names the code in a folder: two states of a checkout share a version, and have different digests."""
    try:
        number = version("stream-detector")
    except PackageNotFoundError:  # run from a folder of sources that was never installed
        number = "0"
    digest = hashlib.sha256()
    for source in sorted(engine.rglob("*.py")):
        digest.update(f"{source.relative_to(engine).as_posix()}\0".encode())
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    return f"{number}+{digest.hexdigest()[:DIGITS]}"
