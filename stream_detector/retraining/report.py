"""The report of a retraining, as JSON for programs and Markdown for people, in its run directory."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stream_detector.retraining.gate import Check, GateResult
from stream_detector.tracking.run_directory import RunDirectory

__all__ = ["Report", "limit"]


@dataclass(frozen=True, slots=True)
class Report:
    """The account of a retraining: its reason, the version that served, the new one and its lineage, what the gate
    said, the result (`published`, `refused`, `not published`, or what went wrong), and the SHA-256 of
    the reference set, if there was one.
    """

    why: str
    champion: str
    version: str | None
    lineage: Mapping[str, Any]
    gate: GateResult | None
    result: str
    reference: str | None = None

    def save(self, run: RunDirectory) -> None:
        """Writes report.md, then report.json, which marks the run as ended."""
        run.save_text("report.md", self.to_markdown())
        run.save_json("report", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "result": self.result,
            "why": self.why,
            "champion": self.champion or None,
            "version": self.version,
            "checks": self.gate.to_dict() if self.gate else [],
            "not_checked": [asdict(each) for each in self.gate.unchecked] if self.gate else [],
            "reference": self.reference,
            "lineage": dict(self.lineage),
        }

    def to_markdown(self) -> str:
        """The report as one page."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"# Retraining: {self.result}"
        yield f"- why: {self.why}"
        yield f"- model: {self.version or 'none'}"
        yield f"- current model at the start: {self.champion or 'none'}"
        yield f"- reference set: {f'SHA-256 {self.reference}' if self.reference else 'none'}"
        if self.gate:
            yield from ("", "## Gate", "| check | figure | limit | | |", "|---|---|---|---|---|")
            for check in self.gate.checks:
                passed = "passed" if check.passed else "**failed**"
                yield f"| {check.name} | {check.figure:.4g} | {limit(check)} | {passed} | {check.meaning} |"
            for other in self.gate.unchecked:
                yield f"| {other.name} | | | not checked | {other.why} |"
        for title, key in (("Records", "parts"), ("Left out", "left_out"), ("Offsets, first and last", "offsets")):
            if self.lineage.get(key):
                yield from (
                    "",
                    f"## {title}",
                    *(f"- {name}: {_plain(found)}" for name, found in self.lineage[key].items()),
                )
        yield from _features(self.lineage)


def _features(lineage: Mapping[str, Any]) -> Iterator[str]:
    """The lines about the features learnt from."""
    if features := lineage.get("features"):
        yield from (
            "",
            "## Features",
            "| feature | kind | coverage | distinct | low | high | note |",
            "|---|---|---|---|---|---|---|",
        )
        for f in features:
            span = (("" if end is None else f"{end:.6g}") for end in (f["low"], f["high"]))
            cells = (f["name"], f["kind"], f"{f['coverage']:.1%}", f"{f['distinct']:,}", *span, f["note"])
            yield f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def limit(check: Check) -> str:
    """The limits of a check in a few characters."""
    if check.least is not None and check.most is not None:
        return f"{check.least:.4g} to {check.most:.4g}"
    return f"≥ {check.least:.4g}" if check.least is not None else f"≤ {check.most:.4g}"


def _plain(found: Any) -> str:
    return " to ".join(f"{each:,}" for each in found) if isinstance(found, list) else f"{found:,}"
