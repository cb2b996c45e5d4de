"""Keeps the garbage collector to what comes and goes."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["settled_heap"]


@contextmanager
def settled_heap() -> Iterator[None]:
    """Takes what is loaded by now, libraries and model, out of the collector's sight.

    The objects of every batch make it run, and it would go through all of those again and again:
    a tenth of the cost of decoding, more than half of the cost of explaining.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
