"""Scoring on a processor: code that numba compiles, without Python's lock."""
