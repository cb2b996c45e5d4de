"""Compiles the scoring kernel, so that the first scoring need not: while the image is built, and by `make setup`."""

# ruff: noqa: INP001 - a script, not a module

import numpy as np

import stream_detector

rows = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
config = stream_detector.ModelConfig(model={"steps": 200})
stream_detector.fit(rows, config=config, device="cpu").score(rows)
