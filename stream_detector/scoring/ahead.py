"""Scoring beside something else: the kernel holds no lock, nor does waiting for a device, so decoding goes on meanwhile."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from stream_detector.model import DetectorModel, Scores, as_matrix, scored

__all__ = ["begin"]

THREAD = ThreadPoolExecutor(1, "scoring")  # begins with the first thing that is submitted
BLOCK = 8_192  # rows normalised at once, which bounds memory


def begin(model: DetectorModel, X: NDArray[np.float32]) -> Callable[[], Scores]:
    """As `DetectorModel.score` of records [record, feature]; the function that is returned waits for the scores.

    Only what needs no lock is left to the thread: it would wait for the lock at every step of the rest.
    """
    if not len(X):
        return lambda: model.score(X)
    matrix, scorer = as_matrix(X, model.schema), model.scorer
    if model.device_scorer:
        told = model.device_scorer.begin(matrix)
        return lambda: Scores(*told())
    blocks = [matrix[first : first + BLOCK] for first in range(0, len(matrix), BLOCK)]
    waiting = [THREAD.submit(scorer.measured, scorer.normaliser(rows), np.full(len(rows), -1)) for rows in blocks]
    return lambda: scored(model.calibration, model.config, np.concatenate([raw.result() for raw in waiting]))
