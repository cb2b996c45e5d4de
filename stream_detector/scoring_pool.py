"""Scores in threads of its own while others decode: the kernel holds no lock, nor does waiting for a device, so decoding goes on meanwhile."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from stream_detector.features import Encoded
from stream_detector.model import DetectorModel, Scores, scored
from stream_detector.scoring.opinions import RawScores
from stream_detector.scoring.scorer import Measured, Scorer, blocks

__all__ = ["ScoringPool", "Task"]

MOST = 3  # threads that score: what one thread can decode and judge of the densest format gives no more of them work
LATEST = 16  # tasks that a waiting thread looks through for one to compute


class Task:
    """A computation that is left to the thread that is free first, one that waits for a result included."""

    def __init__(self, compute: Callable[[], Measured]) -> None:
        self._compute = compute
        self._taken = Lock()  # for good
        self._future: Future[Measured] = Future()

    def run(self) -> None:
        """Computes it, unless another thread does or has done."""
        if not self._taken.acquire(blocking=False):
            return
        try:
            self._future.set_result(self._compute())
        except Exception as error:  # noqa: BLE001 - it is whoever asks for the result that it concerns
            self._future.set_exception(error)

    @property
    def is_done(self) -> bool:
        """Tells whether the result is there."""
        return self._future.done()

    def result(self) -> Measured:
        """Waits for the result; raises what computing it raised."""
        return self._future.result()


class ScoringPool:
    """Threads that score, and what waits for them; it belongs to whoever has records scored, and ends with it.

    The threads begin when they are needed. Any thread may call it.
    """

    def __init__(self) -> None:
        self.threads = max(1, min(MOST, (os.cpu_count() or 1) - 1))
        self._executor = ThreadPoolExecutor(self.threads, "scoring")
        self._waiting: deque[Task] = deque(maxlen=LATEST)  # the latest; some have been computed meanwhile

    def begin(self, model: DetectorModel, X: Encoded) -> Callable[[], Scores]:
        """Begins to score encoded records as `DetectorModel.score` does; the function returned waits for the scores.

        Only the compiled call is left to a thread: it would wait for the lock at every step of the rest.
        """
        if not len(X):
            return lambda: model.score_alone(X)
        matrix, scorer = X.matrix, model.scorer
        if model.device_scorer:
            told = model.device_scorer.begin(matrix)
            return lambda: Scores.of(scorer.panel, told())
        tasks = [self.submit(_measuring(scorer, matrix[rows])) for rows in blocks(len(matrix))]

        def wait() -> Scores:
            found = [scorer.screened(self.result(task)) for task in tasks]
            return scored(model.calibration, scorer.panel, RawScores.joined(found))

        return wait

    def submit(self, compute: Callable[[], Measured]) -> Task:
        """Has something computed."""
        task = Task(compute)
        self._waiting.append(task)
        self._executor.submit(task.run)
        return task

    def result(self, task: Task) -> Measured:
        """Computes what is waiting, the last first, until the task's result is there; raises what computing it raised."""
        while not task.is_done and (other := self._last_waiting()):
            other.run()
        return task.result()

    def _last_waiting(self) -> Task | None:
        try:
            return self._waiting.pop()
        except IndexError:
            return None


def _measuring(scorer: Scorer, rows: NDArray[np.float32]) -> Callable[[], Measured]:
    normalised = scorer.normaliser(rows)
    return lambda: scorer.measured(normalised, np.full(len(rows), -1))
