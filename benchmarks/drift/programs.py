"""The programs of an operation, as an operator runs them: each a process with a log of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_detector.errors import StreamDetectorError

__all__ = ["Program", "run", "started"]

COMMAND = (sys.executable, "-c", "from stream_detector.cli import main; main()")
PATIENCE = 60.0  # seconds to end when told to


@dataclass(frozen=True)
class Program:
    """A running command; what it logs is one JSON object a line."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    out: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log entries of that name so far."""
        found = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("event") == name:
                found.append(entry)
        return found

    def require_alive(self) -> None:
        """Raises with the end of its log when it has ended."""
        if self.process.poll() is not None:
            raise StreamDetectorError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def run(folder: Path, name: str, *arguments: str) -> None:
    """Runs a command to its end; raises with the end of its log when it fails."""
    with started(folder, name, *arguments) as program:
        if program.process.wait():
            raise StreamDetectorError(f"{name} ended with {program.process.returncode}:\n{program.tail()}")


@contextmanager
def started(folder: Path, name: str, *arguments: str, slot: str | None = None) -> Iterator[Program]:
    """A command while the block runs; then it is told to end, and must."""
    environment = (
        os.environ
        | {"OMP_NUM_THREADS": "1", "COLUMNS": "150"}
        | ({"STREAM_DETECTOR_KAFKA__SLOT": slot} if slot else {})
    )
    log, out = folder / f"{name}.log", folder / f"{name}.out"
    with log.open("wb") as errors, out.open("wb") as output:
        process = subprocess.Popen((*COMMAND, *arguments), stdout=output, stderr=errors, env=environment)
        try:
            yield Program(name, process, log, out)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
