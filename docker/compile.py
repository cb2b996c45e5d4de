"""Compiles the scoring kernel into NUMBA_CACHE_DIR, so that containers need not; used while the image is built."""

# ruff: noqa: INP001, T201 - a script for the image, not a module

import numpy as np

import stream_detector

rows = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
config = stream_detector.ModelConfig(model={"steps": 200})
print(stream_detector.fit(rows, config=config, device="cpu").score(rows).anomaly.shape)
