"""Settings of Python's interpreter that suit a worker: its garbage collector, and how soon threads take turns."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["frozen_gc", "short_switch_interval"]

ALLOCATIONS = 20_000  # of objects that live, until the collector looks for cycles; Python's 700 are a tenth of a batch
INTERVAL = 1e-4  # seconds; in the 5 ms of Python a thousand records are scored, which ask for the lock twice


@contextmanager
def frozen_gc() -> Iterator[None]:
    """Takes what is loaded by now, libraries and model, out of the collector's sight, and has it run less often.

    The objects of every batch make it run, and it would go through all of those again and again:
    a tenth of the cost of decoding, more than half of the cost of explaining.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def short_switch_interval() -> Iterator[None]:
    """Lets a thread that waits for Python's lock, such as the scoring one, get it soon while this one decodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
