"""Scoring beside something else: the kernel holds no lock, nor does waiting for a device, so decoding goes on meanwhile."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from stream_detector.features import Encoded
from stream_detector.model import DetectorModel, Scores, scored
from stream_detector.scoring.scorer import Scorer

__all__ = ["begin"]

BLOCK = 8_192  # rows normalised at once, which bounds memory
MOST = 3  # threads that score: what one thread can decode and judge of the densest format gives no more of them work
THREADS = ThreadPoolExecutor(max(1, min(MOST, (os.cpu_count() or 1) - 1)), "scoring")  # begin when they are needed

Measured = Sequence[NDArray[np.float64]]


class Task:
    """Something to compute: by whichever thread is free first, one that waits for a result included."""

    def __init__(self, compute: Callable[[], Measured]) -> None:
        self._compute = compute
        self._taken = Lock()  # for good
        self._future: Future[Measured] = Future()
        WAITING.append(self)
        THREADS.submit(self.run)

    def run(self) -> None:
        """Computes it, unless another thread does or has done."""
        if not self._taken.acquire(blocking=False):
            return
        try:
            self._future.set_result(self._compute())
        except Exception as error:  # noqa: BLE001 - it is whoever asks for the result that it concerns
            self._future.set_exception(error)

    def result(self) -> Measured:
        """Computes what is waiting, the last first, until the result is there; raises what computing it raised."""
        while not self._future.done() and (other := _last_waiting()):
            other.run()
        return self._future.result()


WAITING: deque[Task] = deque(maxlen=16)  # the latest; some have been computed meanwhile


def _last_waiting() -> Task | None:
    try:
        return WAITING.pop()
    except IndexError:
        return None


def begin(model: DetectorModel, X: Encoded) -> Callable[[], Scores]:
    """As `DetectorModel.score` of encoded records; the function that is returned waits for the scores.

    Only the compiled call is left to a thread: it would wait for the lock at every step of the rest.
    """
    if not len(X):
        return lambda: model.score(X)
    matrix, scorer = X.matrix, model.scorer
    if model.device_scorer:
        told = model.device_scorer.begin(matrix)
        return lambda: Scores(*told())
    blocks = [matrix[first : first + BLOCK] for first in range(0, len(matrix), BLOCK)]
    tasks = [Task(_measuring(scorer, rows)) for rows in blocks]
    return lambda: scored(
        model.calibration, model.config, np.concatenate([scorer.screened(task.result()) for task in tasks])
    )


def _measuring(scorer: Scorer, rows: NDArray[np.float32]) -> Callable[[], Measured]:
    normalised = scorer.normaliser(rows)
    return lambda: scorer.measured(normalised, np.full(len(rows), -1))
