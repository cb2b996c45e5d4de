"""One self-contained HTML page about a training: pictures inlined, nothing fetched, no script."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from stream_detector.errors import ConfigError
from stream_detector.tracking.plots import TITLES, save_plots
from stream_detector.tracking.run_directory import RunDirectory, Tables

__all__ = ["report"]

FEATURES_SHOWN = 30  # of the fit by feature, the worst first
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 66rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p.lead { color: #555; margin-top: .2rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0; }
th, td { text-align: left; padding: .18rem .9rem .18rem 0; border-bottom: 1px solid #e4e4e4; overflow-wrap: anywhere; }
th { font-weight: 600; color: #555; } td.n, th.n { text-align: right; }
figure { margin: .6rem 0 1.4rem; } img { max-width: 100%; height: auto; }
.two { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start; }
"""

Row = Sequence[Any]


def report(run: RunDirectory) -> str:
    """Makes the page from the run's tables; a training that was interrupted has one, too.

    Raises `ConfigError` when nothing was measured yet.
    """
    tables = run.load_tables()
    if not tables.get("detection"):
        raise ConfigError(f"{run.path}: nothing has been measured yet; wait for the first checkpoint")
    save_plots(run)
    spot = run.load_json("sweet_spot")
    body = "".join(_sections(run, tables, spot))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(run.path.name)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def _sections(run: RunDirectory, tables: Tables, spot: Mapping[str, Any] | None) -> Iterator[str]:
    yield f"<h1>Training {escape(run.path.name)}</h1>"
    yield f'<p class="lead">{_verdict(tables, spot)}</p>'
    yield from _pictures(run, ("sweet_spot",))
    yield from _detection(tables, spot)
    yield from _pictures(run, ("auc", "roc", "scores"))
    yield from _generator(tables, spot)
    yield from _pictures(run, ("goodness", "pdf", "cdf", "losses"))
    yield from _features(run.load_json("features") or {})
    yield from _description(run.description)


def _verdict(tables: Tables, spot: Mapping[str, Any] | None) -> str:
    steps = [row["step"] for row in tables["detection"]]
    if spot is None:
        return f"Not finished: measured up to step {max(steps):,}. There is no sweet spot yet."
    at = spot["steps"].index(spot["step"])
    return escape(
        f"Step {spot['step']:,} of {max(steps):,} was chosen: there, “{spot['opinion']}” tells synthetic anomalies from "
        f"held-out normal records best (mean AUC {spot['smoothed'][at]:.4f}, smoothed; at the last step "
        f"{spot['smoothed'][-1]:.4f}). No label was looked at."
    )


def _pictures(run: RunDirectory, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        file = run.path / "plots" / f"{name}.png"
        if file.is_file():
            image = b64encode(file.read_bytes()).decode()
            title = escape(TITLES[name])
            yield f'<h2>{title}</h2><figure><img alt="{title}" src="data:image/png;base64,{image}"></figure>'


def _detection(tables: Tables, spot: Mapping[str, Any] | None) -> Iterator[str]:
    """The table of what every opinion detects at the chosen (or last) step."""
    step = _shown(tables, spot)
    rows = [
        (row["opinion"], f"{row['size']:g}", f"{row['auc']:.4f}", *_confusion(row))
        for row in tables["detection"]
        if row["step"] == step
    ]
    yield f"<h2>Detection at step {step:,}</h2>"
    heads = ("opinion", "size, sd", "AUC", "found", "missed", "false alarms", "left alone")
    yield _table(heads, rows, numbers=6)


def _confusion(row: Mapping[str, Any]) -> tuple[int, ...]:
    names = ("true_positives", "false_negatives", "false_positives", "true_negatives")
    return tuple(row[name] for name in names)


def _generator(tables: Tables, spot: Mapping[str, Any] | None) -> Iterator[str]:
    step = _shown(tables, spot)
    joint = next((row for row in tables.get("joint", []) if row["step"] == step), None)
    if joint is None:
        return
    yield f'<h2>Generated records at step {step:,}</h2><div class="two">'
    figures = [(name, f"{value:.4f}") for name, value in joint.items() if name != "step"]
    yield _table(("jointly", ""), figures, numbers=1)
    fits = [row for row in tables["features"] if row["step"] == step and row["ks"] is not None]
    worst = sorted(fits, key=lambda row: -row["ks"])[:FEATURES_SHOWN]
    rows = [(row["feature"], f"{row['ks']:.3f}", f"{row['wasserstein']:.3f}") for row in worst]
    yield _table(("feature, worst first", "Kolmogorov–Smirnov", "Wasserstein, sd"), rows, numbers=2) + "</div>"


def _features(told: Mapping[str, Any]) -> Iterator[str]:
    """The tables of the features that the fit took, and of the columns that it left out."""
    if features := told.get("features"):
        rows = [
            (f["name"], f["kind"], f["note"], f"{f['coverage']:.1%}", f["distinct"], _span(f["low"], f["high"]))
            for f in features
        ]
        yield "<h2>Features</h2>"
        yield _table(("feature", "kind", "note", "coverage", "distinct", "range"), rows, numbers=3)
    if left_out := told.get("not_features"):
        yield "<h2>Left out</h2>" + _table(("column", "why"), list(left_out.items()), numbers=0)


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None else f"{low:.6g} to {high:.6g}"


def _description(description: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Configuration</h2>"
    yield _table(("key", "value"), list(_flat(description)), numbers=0)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, inner in value.items():
        yield from _flat(inner, f"{key}.{name}" if key else str(name))


def _shown(tables: Tables, spot: Mapping[str, Any] | None) -> int:
    return int(spot["step"] if spot else max(row["step"] for row in tables["detection"]))


def _table(heads: Row, rows: Iterable[Row], numbers: int) -> str:
    """A table whose last `numbers` columns are aligned as numbers."""

    def line(cells: Row, tag: str) -> str:
        words = len(cells) - numbers
        marked = (
            f"<{tag}{' class=n' if at >= words else ''}>{escape(str(cell))}</{tag}>" for at, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    return f"<table>{line(heads, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
