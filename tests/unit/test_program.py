"""How programs end: with the right code, one line or none, and never with a traceback."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stream_detector.errors import DataError
from stream_detector.runtime.program import run

pytestmark = pytest.mark.thorough

PYTHON = sys.executable
COMMAND = (PYTHON, "-m", "stream_detector")
SIMULATOR = (PYTHON, "-m", "producers.simulator")
ENDLESS = (*SIMULATOR, "--out", "-")
PROGRAMS = {
    "stream-detector": (*COMMAND, "validate"),
    "help": (*COMMAND, "--help"),
    "simulator": (*SIMULATOR, "--records", "800", "--out", "-"),
    "replay": (PYTHON, "-m", "producers.replay", "rows.csv", "--out", "-"),
}


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    """A table to replay, in the folder that programs run in; they find their packages in the checkout."""
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("load,heat\n" + "1,2\n" * 2_000)


def ended(program, output, **options):
    """Exit code of a program whose standard output is `output`, and what it says on standard error."""
    done = subprocess.run(program, stdout=output, stderr=subprocess.PIPE, text=True, timeout=60, check=False, **options)
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_enough_ends_a_program_quietly(name, unbuffered, monkeypatch):
    """Whether the pipe is found closed in mid-work or at the last flush: exit code 0, nothing of an error."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        code, said = ended(PROGRAMS[name], writing)
    finally:
        os.close(writing)
    assert code == 0
    assert "rror" not in said
    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_output_that_takes_no_more_is_one_line(name):
    """A full disk behind standard output: exit code 10, and why."""
    with Path("/dev/full").open("w") as full:
        code, said = ended(PROGRAMS[name], full)
    assert code == 10
    assert said.count("error: ") == 1
    assert "No space left on device" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", PROGRAMS)
def test_closed_streams_are_no_fault(name):
    """Started without standard streams, as some supervisors do, a program works and takes no other file for them."""
    shell = f"exec {' '.join(PROGRAMS[name])} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], timeout=60, check=False).returncode == 0


def test_a_reader_of_the_errors_may_leave(tmp_path):
    """An error is still an error when nobody reads it."""
    reading, writing = os.pipe()
    os.close(reading)
    program = (*COMMAND, "validate", "-c", "absent.yaml")
    done = subprocess.run(program, stdout=subprocess.PIPE, stderr=writing, text=True, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize(
    "program",
    [(*ENDLESS[1:], "--rate", "2000"), (*COMMAND[1:], "study", "--run-dir", "runs")],
    ids=["simulator", "study"],
)
def test_an_interrupt_at_any_moment_is_130_and_no_traceback(program, seconds):
    """While it loads, while it works: Ctrl-C says nothing but what the program says at its end anyway."""
    watched = (PYTHON, "-X", "importtime", *program)  # which tells when Python is up, and loads for us
    with subprocess.Popen(watched, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as started:
        assert any(line.split()[-1] == "rich" for line in started.stderr)
        threading.Timer(seconds, started.send_signal, (signal.SIGINT,)).start()
        said = [line for line in started.stderr if not line.startswith("import time:")]
    assert (started.returncode, "Traceback" in "".join(said)) == (130, False)
    assert len(said) <= 1


def test_an_interrupt_of_a_program_that_has_ended_changes_nothing():
    """Python's own end takes a moment: the exit code stands by then, and no signal becomes it."""
    ending = "import atexit, os, signal; atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))"
    last = "from stream_detector.runtime.startup import guard_startup; guard_startup()"
    assert ended((PYTHON, "-c", f"{ending}; {last}"), subprocess.DEVNULL) == (0, "")


def test_nothing_is_loaded_before_an_interrupt_is_looked_after():
    """Ctrl-C while Python starts is Python's affair; from the command's first line on it is ours."""
    first = "import sys, signal, atexit; before = set(sys.modules); import stream_detector.cli; "
    first += "print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run((PYTHON, "-c", first), capture_output=True, text=True, check=True).stdout.split()
    ours = ["cli", "runtime", "runtime.startup"]
    assert loaded == ["stream_detector", *(f"stream_detector.{name}" for name in ours)]


def test_termination_ends_a_producer_in_order():
    """SIGTERM, as a container's end: exit code 0, with the line that says how much was sent."""
    with subprocess.Popen(ENDLESS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        started.stdout.readline()
        started.terminate()
        _, said = started.communicate(timeout=60)
    assert started.returncode == 0
    assert "records to -" in said


def raising(error):
    def program():
        raise error

    return program


def interrupted_and_then(error):
    def program():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            raise error from None

    return program


@pytest.mark.parametrize("error", [ImportError("half loaded"), DataError("half read"), SystemError("half called")])
def test_an_interrupt_that_became_another_error_is_an_interrupt(error, capsys):
    """Foreign code turns KeyboardInterrupt into errors of its own; what was asked for is the end."""
    assert run(interrupted_and_then(error)) == 130
    assert capsys.readouterr().err == ""


def test_an_interrupt_while_a_module_loads_waits_until_it_is_loaded(tmp_path, monkeypatch):
    """Torch ends the process with a core dump when it is interrupted while it loads."""
    slow = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.3)\nloaded = True\n"
    (tmp_path / "slow_to_load.py").write_text(slow)
    monkeypatch.syspath_prepend(tmp_path)

    def program():
        import slow_to_load

        assert slow_to_load.loaded
        time.sleep(10)

    assert run(program) == 130
    assert sys.modules["slow_to_load"].loaded


def test_an_error_of_ours_is_one_line_and_its_code(capsys):
    """The line goes to standard error."""
    assert run(raising(DataError("row 3: no number"))) == 3
    assert capsys.readouterr().err == "error: row 3: no number\n"


def test_a_fault_in_the_program_is_raised():
    """A closed connection is no closed output: whoever has to mend it needs the traceback."""
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))
    with pytest.raises(BrokenPipeError):
        run(raising(BrokenPipeError(32, "Broken pipe")))


def test_handlers_of_the_caller_are_put_back():
    """A program that is called as a function leaves signals as they were."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert run(lambda: None, terminated=0) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
