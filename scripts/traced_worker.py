"""Runs a command of `stream-detector` and notes the engine's files whose functions run between a record's poll and commit.

    python scripts/traced_worker.py OUT COMMAND...

The record has the key `traced`. Numba's functions run as Python. OUT is a JSON array of paths below the package,
in the order of first entry, written when the record is committed.
"""

import ast
import inspect
import json
import os
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from concurrent.futures.thread import _worker  # what every thread of a pool runs
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

TRACED = b"traced"


def package() -> Path:
    """The folder of the engine that is traced."""
    spec = find_spec("stream_detector")
    assert spec, "no stream_detector on the path"
    assert spec.origin
    return Path(spec.origin).parent


class Road:
    """Files of the engine in order of first entry, noted from the record's poll to its commit.

    The polling thread counts, what it hands work to, and what it starts. Other threads do what they do by themselves.
    """

    def __init__(self, root: Path, out: Path) -> None:
        self._root, self._out = f"{root}{os.sep}", out
        self._is_open = False
        self._others: set[int] = set()
        self._files: dict[str, None] = {}
        self.opens: list[Callable[[], None]] = []  # called when it does

    def watch(self) -> None:
        """Every function that any thread enters from here on is seen."""
        threading.setprofile(self._runs)
        sys.setprofile(self._runs)

    def open(self) -> None:
        """The record is here, handed to this thread."""
        for call in self.opens:
            call()
        helpers = {thread for thread in threading.enumerate() if getattr(thread, "_target", None) is _worker}
        others = set(threading.enumerate()) - helpers - {threading.current_thread()}
        self._others = {thread.ident for thread in others if thread.ident}
        self._is_open = True

    def commit(self) -> None:
        """A transaction is committed; the one with the record ends the road."""
        if self._is_open:
            self._is_open = False
            self._out.write_text(json.dumps(list(self._files)))

    def enter(self, code: CodeType, file: str | None = None) -> None:
        """Notes the file of a function, if it is the engine's; `file` where its code does not say it."""
        file = file or code.co_filename
        if self._is_open and file.startswith(self._root) and threading.get_ident() not in self._others:
            self._files.setdefault(file.removeprefix(self._root))

    def _runs(self, frame: FrameType, _event: str, _argument: Any) -> None:
        """Called when a function is entered, calls or returns: one that only waits for what it called does not run."""
        if not self._is_open:
            return
        code = frame.f_code
        if code.co_filename == "<string>":
            self.enter(code, _home(frame))
        else:
            self.enter(code)


def _home(frame: FrameType) -> str:
    """The file of the class whose constructor was generated: a dataclass's or a named tuple's."""
    made = frame.f_locals.get("_cls")
    module = sys.modules.get(made.__module__ if isinstance(made, type) else frame.f_globals.get("__name__", ""))
    return getattr(module, "__file__", None) or ""


def watch_clients(road: Road) -> None:
    """The road opens where the client hands the record over, and closes where the commit returns."""
    import confluent_kafka

    class Consumer(confluent_kafka.Consumer):
        def consume(self, *args: Any, **options: Any) -> Any:
            messages = super().consume(*args, **options)
            if any(message.key() == TRACED for message in messages):
                road.open()
            return messages

        def poll(self, *args: Any, **options: Any) -> Any:
            message = super().poll(*args, **options)
            if message is not None and message.key() == TRACED:
                road.open()
            return message

    class Producer(confluent_kafka.Producer):
        def commit_transaction(self, *args: Any, **options: Any) -> Any:
            ended = super().commit_transaction(*args, **options)
            road.commit()
            return ended

    confluent_kafka.Consumer, confluent_kafka.Producer = Consumer, Producer  # type: ignore[misc]


class _Widened(ast.NodeTransformer):
    """`a[b]` reads as `_wide(a[b])`: compiled code computes with 64 bits where NumPy keeps 32."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            return node
        return ast.copy_location(ast.Call(ast.Name("_wide", ast.Load()), [node], []), node)


def interpret(road: Road) -> None:
    """Numba's decorators leave functions as Python; what is written in LLVM's code is compiled alone, and noted."""
    import numba.core.event
    import numba.extending
    import numpy as np
    from numba.core.registry import CPUDispatcher

    warnings.simplefilter("ignore")
    made_by = numba.extending.intrinsic

    def wide(value: Any) -> Any:
        return int(value) if isinstance(value, np.int32) else value

    def plain(*given: Callable[..., Any], **_options: Any) -> Any:
        return _as_python(given[0], wide) if given else lambda function: _as_python(function, wide)

    def leaf(function: Callable[..., Any]) -> Any:
        names = ", ".join(list(inspect.signature(function).parameters)[1:])
        space = {"inner": made_by(function)}
        machine: list[Any] = []
        road.opens.append(machine.clear)  # what writes LLVM's code is on the road, too

        def call(*values: Any) -> Any:
            road.enter(function.__code__)
            if not machine:
                machine.append(CPUDispatcher(eval(f"lambda {names}: inner({names})", space)))
            answer = machine[0](*values)
            return np.int64(answer) if isinstance(answer, int) else answer  # which wraps as compiled code does

        return call

    vars(numba)["njit"], vars(numba.extending)["intrinsic"] = plain, leaf
    register = numba.core.event.register

    def register_own(kind: Any, listener: Any) -> None:
        if type(listener).__module__.startswith("numba"):  # others are not told of compiling, which is the trace's own
            register(kind, listener)  # type: ignore[no-untyped-call]

    numba.core.event.register = register_own


def _as_python(function: Any, wide: Callable[[Any], Any]) -> Any:
    """The same function from its source, its subscripts widened; files and lines stay its own."""
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    ast.increment_lineno(tree, first - 1)
    tree.body[0].decorator_list = []  # type: ignore[attr-defined]
    made: dict[str, Any] = {}
    function.__globals__["_wide"] = wide
    code = compile(ast.fix_missing_locations(_Widened().visit(tree)), inspect.getfile(function), "exec")
    exec(code, function.__globals__, made)
    return made[function.__name__]


def main(out: Path, arguments: list[str]) -> None:
    """Runs the command in this process, watched."""
    road = Road(package(), out)
    watch_clients(road)
    interpret(road)
    from stream_detector import cli

    sys.argv = ["stream-detector", *arguments]
    road.watch()
    cli.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
