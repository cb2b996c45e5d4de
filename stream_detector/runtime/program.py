"""Runs every program of this project to its exit code, with one line of error at most.

A reader of the output who has enough (`| head`) is no fault: the exit code is 0. Ctrl-C is 130. An
output that takes no more is a `WriteError`. A traceback is a fault of ours, and nothing else is one.
"""

import os
import select
import signal
import sys
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, EFBIG, EIO, ENOSPC
from threading import Timer, current_thread, main_thread
from types import FrameType
from typing import TextIO

from stream_detector.errors import StreamDetectorError, WriteError
from stream_detector.runtime.startup import INTERRUPTED

__all__ = ["run"]

SOON = 0.1  # seconds
FULL = {ENOSPC, EDQUOT, EFBIG, EIO}


def run(program: Callable[[], object], *, terminated: int | None = None) -> int:
    """Runs a program to its exit code; `terminated` is the exit code on SIGTERM; None leaves that signal alone."""
    from stream_detector.runtime.logs import never_fail_to_encode  # noqa: PLC0415 - loads much, and may be interrupted

    never_fail_to_encode()
    with _Ending(terminated).signals() as ending:
        code = ending.of(program)
    return _flushed(code)


class _Ending:
    """Signals that have come meanwhile, and the streams that take the output."""

    def __init__(self, terminated: int | None) -> None:
        self._terminated = terminated
        self._interrupted = False
        self._outputs = [os.dup(number) for number in (1, 2)]  # of rich's own end nothing is left to ask

    @contextmanager
    def signals(self) -> Iterator["_Ending"]:
        asked: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGINT: self._interrupt}
        if self._terminated is not None:
            asked[signal.SIGTERM] = self._terminate
        before = {}
        if current_thread() is main_thread():
            before = {number: signal.signal(number, handler) for number, handler in asked.items()}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for output in self._outputs:
                os.close(output)

    def of(self, program: Callable[[], object]) -> int:
        """The exit code of a program; an error that another library made of an interrupt counts as an interrupt."""
        try:
            program()
        except KeyboardInterrupt:
            return INTERRUPTED
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            return 0 if code == 1 and self._nobody_reads() else code
        except BaseException as error:  # noqa: BLE001 - raised again, or an interrupt
            if self._interrupted:
                return INTERRUPTED
            return self._told(error)
        return 0

    def _told(self, error: BaseException) -> int:
        """The exit code of an error that is a line, or none; any other is raised again."""
        if isinstance(error, StreamDetectorError):
            return _say(error)
        if isinstance(error, BrokenPipeError) and self._nobody_reads():
            return 0
        if isinstance(error, OSError) and error.errno in FULL:
            where = error.filename or "the output"
            return _say(WriteError(f"{where}: cannot be written ({error.strerror}); free it, or give another place"))
        raise error

    def _nobody_reads(self) -> bool:
        """Tells whether the reader of standard output, or error, has left."""
        poll = select.poll()
        for output in self._outputs:
            poll.register(output, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        if _importing(frame):  # torch, interrupted while it loads, dumps a core
            later = Timer(SOON, interrupt_main)
            later.daemon = True
            later.start()
            return
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        raise KeyboardInterrupt

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        sys.exit(self._terminated)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _say(error: StreamDetectorError) -> int:
    from stream_detector.runtime.logs import report  # noqa: PLC0415 - as above

    with suppress(OSError):
        report(error)
    return error.exit_code


def _flushed(code: int) -> int:
    """The exit code once all is written; Python's own last flush must find nothing left, or it complains."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            _discard(stream)
        except OSError as error:
            _discard(stream)
            if stream is sys.stdout and not code:
                code = _say(WriteError(f"standard output cannot be written ({error.strerror}); free it"))
        except ValueError:  # closed by the program itself
            continue
    return code


def _discard(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
