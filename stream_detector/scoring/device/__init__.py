"""Scoring by tensors, on devices other than the CPU: tiles of one shape, each a graph that CUDA replays."""

from stream_detector.scoring.device.scorer import DeviceScorer

__all__ = ["DeviceScorer"]
