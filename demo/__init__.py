"""The demo plays the whole road once: telemetry with faults, a fit, a worker, its alerts; it is not installed."""
