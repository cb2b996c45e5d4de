"""Raw scores, what they mean, and when they are alerts."""

from stream_detector.scoring.compiled.cache import settle

settle()
