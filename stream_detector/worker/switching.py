"""How soon a thread that waits for Python's lock gets it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quick_switching"]

INTERVAL = 1e-4  # seconds; in the 5 ms of Python a thousand records are scored, which ask for the lock twice


@contextmanager
def quick_switching() -> Iterator[None]:
    """Lets the scoring thread come to its turn while this one decodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
