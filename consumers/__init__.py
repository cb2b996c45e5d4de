"""Programs that subscribe to what the detector writes."""

import sys

from stream_detector.runtime.startup import guard_startup

if sys.argv[:1] == ["-m"]:  # one of them is being started by `python -m`, and what it needs is loaded next
    guard_startup()
