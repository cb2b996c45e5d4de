"""The results as a Markdown page."""

from collections.abc import Mapping, Sequence

from benchmarks.drift.figures import PHASES, Phase
from benchmarks.drift.operation import Operation
from benchmarks.drift.traffic import ENTITIES, FAULTS, Script
from benchmarks.quality.machine import machine

__all__ = ["others", "page"]

WORDS = {
    "before": "before the release",
    "drift": "release to swap",
    "between": "between swaps",
    "after": "after the swap",
}


def page(
    script: Script, target: float, found: Mapping[str, Phase], operation: Operation, line: str, broken: Sequence[str]
) -> str:
    """Everything that is worth keeping of a run."""
    swaps = "\n".join(f"| {swap.worker} | `{swap.version[:12]}` | {swap.stall_ms:.1f} |" for swap in operation.swaps)
    kept = "Every promise was kept." if not broken else "**Broken:** " + "; ".join(broken) + "."
    return f"""# A release under a running detector
`make bench-drift`, seed {script.seed}; {machine()}, shared by broker, simulator, two workers and the training.

{ENTITIES} simulated services, {script.rate:,.0f} records/s, {FAULTS:g} labelled faults per 1,000 records, target alert
rate {target:.1%}. After {script.before:,} live records a new release makes the same load cost less CPU and disk, more
memory and more latency, for good. Nobody intervenes. {kept}

![alert rate and detected faults over the stream](drift.png)

| | records | alerts | alert rate | faults | detected | missed |
|---|--:|--:|--:|--:|--:|---|
{chr(10).join(_row(WORDS[name], found[name]) for name in PHASES if found[name].records)}

A fault counts where it lies whole, and is detected when one of its records is flagged; the alert rate counts all
alerts, those on faults too. A partition's swap lies between the last alert that names the old model and the first that
names the new one.

## The swap
`{operation.champion[:12]}` was replaced by `{operation.challenger[:12]}`: {operation.why}.

| worker | to model | stall, ms |
|---|---|--:|
{swaps}

What the gate found:

```
{operation.gate.strip()}
```

## The bookkeeping
The whole log was judged again under each model that alerts name: every alert was compared field by field with what its
own model says (*replay_mismatch*), and every record that must have an alert or dead letter was looked for (*lost*) and
counted (*duplicated*), as a read_committed reader sees them.

```
{line}
```
"""


def others(lines: Mapping[int, str]) -> str:
    """The figures of all seeds, where there are several."""
    if len(lines) == 1:
        return ""
    found = "\n".join(f"seed={seed} {line}" for seed, line in lines.items())
    return f"\n## All seeds\n\n```\n{found}\n```\n"


def _row(name: str, phase: Phase) -> str:
    counts = f"{phase.records:,} | {phase.alerts:,} | {phase.rate:.2%} | {len(phase.faults)} | {phase.recall:.1%}"
    return f"| {name} | {counts} | {', '.join(_missed(phase)) or 'none'} |"


def _missed(phase: Phase) -> list[str]:
    return sorted(f"{fault.kind} of {' and '.join(fault.features)}" for fault in phase.faults - phase.detected)
