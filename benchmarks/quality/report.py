"""The report of a benchmark: Markdown tables, the rank plot, and one last line for machines."""

from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path

import numpy as np

from benchmarks.quality.data import PROTOCOL
from benchmarks.quality.method import Method
from benchmarks.quality.plot import plot_ranks
from benchmarks.quality.store import Store
from benchmarks.quality.summary import Measure, Row, best, difference, ranks, summarise

__all__ = ["write"]

TITLES: dict[Measure, str] = {"auroc": "AUROC", "auprc": "AUPRC"}


def write(title: str, methods: Sequence[Method], store: Store, stem: Path) -> str:
    """Write `<stem>.md` and `<stem>.png`; returns the table of means and the last line.

    The first method is what the others are compared with.
    """
    rows = summarise(methods, store)
    if not rows:
        return "no results yet"
    means, last = _means(rows), _last_line(rows)
    tables = [f"## {TITLES[measure]} per set\n\n{_per_set(rows, measure)}" for measure in TITLES]
    plot = stem.with_suffix(".png")
    panels = [(TITLES[measure], ranks(rows, measure)) for measure in TITLES]
    image = ""
    if len(panels[0][1].names) > 1:
        plot_ranks(panels, {row.name for row in rows if row.method.is_ours}, plot)
        image = (
            f"![mean ranks]({plot.name})\n\nMethods whose whiskers do not overlap differ at the 5 % level (Nemenyi)."
        )
    parts = [
        f"# {title}",
        _protocol(rows),
        "## Means",
        means,
        image,
        _differences(rows, methods[0].name),
        *tables,
        _notes(rows),
        f"```\n{last}\n```",
    ]
    stem.with_suffix(".md").write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return f"{means}\n\n{last}"


def _protocol(rows: Sequence[Row]) -> str:
    machines = sorted({result.machine for row in rows for result in row.results})
    return (
        f"{_count(rows)}. Trained on a random half of the normal records (at most {PROTOCOL['train']:,}), tested on "
        f"the other half (at most {PROTOCOL['test_normal']:,}) and all anomalies (at most "
        f"{PROTOCOL['test_anomalies']:,}); the split is the same for every method, and no method sees a label or is "
        "tuned to a set.\n\nFigures are means over the seeds; ± is the standard deviation of the mean between seeds. "
        "Fit and records/s are processor time on one thread, so that a busy machine does not distort them: the "
        f"median over sets and seeds, and the slowest fit.\n\nMachine: {'; '.join(machines)}." + _uneven(rows)
    )


def _uneven(rows: Sequence[Row]) -> str:
    """A warning where means are over different runs."""
    if len({len(row.results) for row in rows}) == 1:
        return ""
    return " **Not all rows have the same runs: compare them by the differences, which pair set with set and seed with seed.**"


def _means(rows: Sequence[Row]) -> str:
    places: dict[Measure, dict[str, float]] = {}
    for measure in TITLES:
        ranked = ranks(rows, measure)
        places[measure] = dict(zip(ranked.names, ranked.means.tolist(), strict=True))
    head = ["method", "AUROC", "AUPRC", "rank, AUROC", "rank, AUPRC", "fit, s", "slowest", "records/s", "runs"]
    lines = [[row.name, *_figures(row, places), *_speed(row), str(len(row.results))] for row in rows]
    return _table(head, lines)


def _figures(row: Row, places: dict[Measure, dict[str, float]]) -> list[str]:
    means = []
    for measure in TITLES:
        deviation = row.deviation(measure)
        means.append(f"{row.mean(measure):.4f}" + ("" if isnan(deviation) else f" ± {deviation:.4f}"))
    orders = [f"{places[measure][row.name]:.2f}" if row.name in places[measure] else "" for measure in TITLES]
    return means + orders


def _speed(row: Row) -> list[str]:
    fits = [result.fit_s for result in row.results]
    speeds = [result.per_s for result in row.results]
    return [f"{np.median(fits):.1f}", f"{max(fits):.1f}", f"{np.median(speeds):,.0f}"]


def _differences(rows: Sequence[Row], name: str) -> str:
    """Every row against the one of this name, pair by pair."""
    reference = next((row for row in rows if row.name == name), None)
    others = [row for row in rows if row is not reference]
    if reference is None or not others:
        return ""
    lines = []
    for row in others:
        pairs = [difference(row, reference, measure) for measure in TITLES]
        lines.append([row.name, *(f"{mean:+.4f} ± {error:.4f}" for mean, error, _ in pairs), str(pairs[0][2])])
    table = _table(["method", *TITLES.values(), "sets"], lines)
    explained = "Mean over the sets that both were run on ± its standard error; below 0 = worse."
    return f"## Differences to {name}\n\n{explained}\n\n{table}"


def _per_set(rows: Sequence[Row], measure: Measure) -> str:
    sets = sorted(set().union(*(row.sets for row in rows)))
    lines = [[name, *_bold_best([row.on(name, measure) for row in rows])] for name in sets]
    return _table(["set", *(row.name for row in rows)], lines)


def _bold_best(values: Sequence[float]) -> list[str]:
    texts = ["–" if isnan(value) else f"{value:.3f}" for value in values]
    top = max((text for text in texts if text != "–"), default="")
    return [f"**{text}**" if text == top else text for text in texts]


def _notes(rows: Sequence[Row]) -> str:
    notes = {row.method.name: row.method.note for row in rows if row.method.note}
    lines = [f"- **{name}**: {note}." for name, note in notes.items()]
    lines.append("- Peers get medians for missing values; numbers of every type are read as float32.")
    return "## Notes\n\n" + "\n".join(lines)


def _last_line(rows: Sequence[Row]) -> str:
    sets = max(len(row.sets) for row in rows)
    seeds = max(len({result.seed for result in row.results}) for row in rows)
    picks: dict[str, Callable[[Row], bool]] = {
        "ours": lambda row: row.method.is_ours and not row.is_variant,
        "peer": lambda row: not row.method.is_ours,
        "other_gan": lambda row: row.method.is_gan and not row.method.is_ours,
    }
    fields = [f"sets={sets}", f"seeds={seeds}"]
    for label, wanted in picks.items():
        for measure in TITLES:
            top = best([row for row in rows if wanted(row)], measure)
            if top is not None:
                fields.append(f"best_{label}_{measure}={top.mean(measure):.4f}:{top.method.key}")
    return " ".join(fields)


def _count(rows: Sequence[Row]) -> str:
    sets = len(set().union(*(row.sets for row in rows)))
    seeds = len({result.seed for row in rows for result in row.results})
    return f"{sets} sets, {seeds} seeds"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *lines])
