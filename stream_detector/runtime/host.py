"""Keeps settings of the surrounding program away from what is computed here.

Torch's default type needs no care: every tensor is made with a type of its own.
Packages are loaded when they are needed.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import stream_detector

__all__ = ["AS_NUMPY_HAS_IT", "undisturbed"]

AS_NUMPY_HAS_IT: Mapping[str, Any] = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""Numpy's own handling of float errors, for `numpy.errstate`."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Training works in the block, whatever gradient mode, handling of float errors and threads the caller has.

    In a forked process torch has one thread: with more it would wait for ever for those of its parent.
    """
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    threads = torch.get_num_threads()
    alone = os.getpid() != stream_detector.PROCESS and threads > 1  # a fork copies no threads
    if alone:
        _say_why()
        torch.set_num_threads(1)
    try:
        with torch.inference_mode(mode=False), torch.enable_grad(), np.errstate(**AS_NUMPY_HAS_IT):
            yield
    finally:
        if alone:
            torch.set_num_threads(threads)


def _say_why() -> None:
    import structlog  # noqa: PLC0415

    why = "this process was forked, and torch's threads were not; start it by the method 'spawn' to train with more"
    structlog.get_logger(__name__).warning("training with one thread", why=why)
