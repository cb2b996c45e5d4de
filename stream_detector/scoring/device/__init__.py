"""Scoring by tensors, on devices other than the CPU: tiles of one shape, each a graph that CUDA replays."""

from stream_detector.scoring.device.batches import DeviceScorer, raw_scores

__all__ = ["DeviceScorer", "raw_scores"]
