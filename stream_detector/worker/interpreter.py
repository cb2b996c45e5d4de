"""Keeps the garbage collector to what comes and goes."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["settled_heap"]


ALLOCATIONS = 20_000  # of objects that live, until the collector looks for cycles; Python's 700 are a tenth of a batch


@contextmanager
def settled_heap() -> Iterator[None]:
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
