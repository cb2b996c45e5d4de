"""The health check of a container that runs a detector: fails unless `/livez` and `/readyz` are content.

A detector that waits for its first model is as it should be: telemetry may not have come yet. What `/readyz` says
is printed, so that `docker inspect` shows it. Without a listener (metrics.port: 0) there is nothing to ask.
"""

# ruff: noqa: INP001 - a script, not a module

import os
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import yaml

CONFIG = Path(os.environ.get("STREAM_DETECTOR_CONFIG", "/etc/stream-detector/config.yaml"))
TIMEOUT = 5.0  # seconds
NO_MODEL = "no model on topic"


def port() -> int:
    """Where the detector listens: the environment wins over the file, as it does for the detector."""
    document = yaml.safe_load(CONFIG.read_text()) if CONFIG.exists() else {}
    written = ((document or {}).get("metrics") or {}).get("port", 0)
    return int(os.environ.get("STREAM_DETECTOR_METRICS__PORT", written))


def ask(path: str, at: int) -> tuple[int, str]:
    """Status and text of an answer."""
    try:
        with urlopen(f"http://127.0.0.1:{at}{path}", timeout=TIMEOUT) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, f"no answer at port {at}: {error}\n"


def main() -> int:
    """0 is healthy, 1 is not."""
    at = port()
    if not at:
        return 0
    alive, said = ask("/livez", at)
    ready, reasons = ask("/readyz", at)
    print(said + reasons, end="")  # noqa: T201
    waits = all(NO_MODEL in line for line in reasons.splitlines())
    return int(alive != 200 or (ready != 200 and not waits))


if __name__ == "__main__":
    sys.exit(main())
