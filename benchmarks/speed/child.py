"""A worker in a process of its own: MODEL CONFIG-JSON; reports its progress as JSON lines."""

import json
import logging
import os
import sys
import time
from pathlib import Path

import structlog

from stream_detector.config import Config
from stream_detector.model import DetectorModel
from stream_detector.worker import loop
from stream_detector.worker.summary import RunSummary

__all__: list[str] = []

PAGE = os.sysconf("SC_PAGE_SIZE")


class Reporter:
    def observe(self, summary: RunSummary) -> None:
        resident = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * PAGE
        line = {"records": summary.records, "rss": resident, "time": time.time(), "cpu": time.process_time()}
        print(json.dumps(line), flush=True)


def main(model: str, config: str) -> None:
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    loop.run(
        Config(**json.loads(config)), lambda: DetectorModel.load(model, "cpu"), until_end=True, observer=Reporter()
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
