"""`python -m benchmarks.speed [--parts a,b] [--quick] [--again]`: runs what is missing, writes the report."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import structlog

from benchmarks.quality.machine import machine
from benchmarks.speed.part import Part, last_line, markdown, stored
from stream_detector.errors import StreamDetectorError

PARTS = {
    "a": "pipeline",
    "b": "scorer",
    "c": "inversion",
    "d": "peers",
    "e": "latency",
    "f": "growth",
    "g": "formats",
    "h": "gpu",
}
RESULTS = Path(__file__).parents[1] / "results" / "speed"
HEAD = """# Speed

Ratios are between loops of one run on one machine, taken in turn; rates are not to be compared between machines, nor
between runs on a busy one. "CPU" is a second of the process's own processor time, all its threads together, which a
busy machine distorts least. `make bench-speed` runs what is missing, `python -m benchmarks.speed --parts a --again` a
part anew."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    code = 0
    for key in options.parts:
        if options.again or stored(options.results, key) is None:
            part: Part = import_module(f"benchmarks.speed.{PARTS[key]}").run
            print(f"{key}: {PARTS[key]}", flush=True)
            try:
                measured = part(options.quick)
            except StreamDetectorError as error:
                print(f"{key}: {error}", file=sys.stderr)
                code = code or error.exit_code
                continue
            stored(options.results, key, replace(measured, machine=machine(), quick=options.quick))
    found = [(key, measured) for key in PARTS if (measured := stored(options.results, key))]
    report = options.results.with_suffix(".md")
    report.write_text("\n\n".join((HEAD, *(markdown(*each) for each in found))) + "\n", encoding="utf-8")
    for key, measured in found:
        if key in options.parts:
            print(markdown(key, measured), end="\n\n")
    for key, measured in found:
        if key in options.parts:
            print(last_line(key, measured))
    return code


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.speed", description=__doc__)
    parser.add_argument(
        "--parts", type=_parts, default=list("abcdefg"), help="letters, comma-separated (default all but h, the GPU's)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer records")
    parser.add_argument("--again", action="store_true", help="also what has a result already")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results (default %(default)s)")
    return parser.parse_args(arguments)


def _parts(text: str) -> list[str]:
    chosen = text.split(",")
    for key in chosen:
        if key not in PARTS:
            raise argparse.ArgumentTypeError(f"no part {key!r}; there are {', '.join(PARTS)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
