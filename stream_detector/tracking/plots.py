"""Pictures of a training, drawn from its run directory's tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stream_detector.foreign import printable
from stream_detector.tracking.detection import roc
from stream_detector.tracking.run_directory import RunDirectory, Tables

__all__ = ["TITLES", "save_plots"]

Rows = list[dict[str, Any]]
RED, GREY, BLUE = "#c2362b", "#777777", "#1f6fb4"
DPI = 110
STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 9,
    "legend.frameon": False,
}
JOINT = {"coverage": BLUE, "precision": "#3a923a", "diversity": "#9467bd", "energy": RED}

TITLES: Mapping[str, str] = {
    "sweet_spot": "The sweet spot: where the chosen checkpoint lies",
    "auc": "Detection over training, by size of the anomalies",
    "roc": "ROC curves before, at and after the sweet spot",
    "scores": "Scores of held-out normal records and of synthetic anomalies",
    "goodness": "How well generated records fit held-out ones",
    "pdf": "Density of real and generated values, feature by feature",
    "cdf": "Cumulative distribution of real and generated values",
    "losses": "Losses",
}
"""What each plot shows, by name, in the order to read them."""


def save_plots(run: RunDirectory) -> None:
    """Draws every plot of `run` that its tables have the rows for, as plots/NAME.png."""
    tables, spot = run.load_tables(), run.load_json("sweet_spot")
    with rc_context(STYLE):
        for name, figure in _figures(tables, spot):
            buffer = BytesIO()
            figure.savefig(buffer, format="png", dpi=DPI)
            run.save_plot(name, buffer.getvalue())


def _figures(tables: Tables, spot: Mapping[str, Any] | None) -> Iterator[tuple[str, Figure]]:
    """The figures by name; an interrupted training has measurements, but no sweet spot yet."""
    if spot is not None:
        yield "sweet_spot", _sweet_spot(spot)
    chosen = spot["step"] if spot else None
    drawn: dict[str, tuple[str, Callable[..., Figure]]] = {
        "auc": ("detection", _areas),
        "roc": ("scores", _rocs),
        "scores": ("scores", _scores),
        "goodness": ("joint", _goodness),
        "pdf": ("quantiles", _densities),
        "cdf": ("quantiles", _shares),
        "losses": ("losses", _losses),
    }
    for name, (table, draw) in drawn.items():
        if tables.get(table):
            yield name, draw(tables, chosen)


def _sweet_spot(spot: Mapping[str, Any]) -> Figure:
    figure, (axes,) = _panels(1, height=3.6)
    axes.plot(spot["steps"], spot["measured"], "o", color=GREY, markersize=4, alpha=0.7, label="measured")
    axes.plot(spot["steps"], spot["smoothed"], color=BLUE, linewidth=2, label="smoothed")
    axes.axhline(spot["enough"], color=GREY, linewidth=0.8, linestyle=":", label="good enough")
    _mark(axes, spot["step"])
    axes.set(xscale="log", xlabel="step", ylabel="mean AUC over sizes", title=f"judged by “{spot['opinion']}”")
    axes.legend()
    return figure


def _areas(tables: Tables, chosen: int | None) -> Figure:
    opinions = list(dict.fromkeys(row["opinion"] for row in tables["detection"]))
    figure, panels = _panels(len(opinions), height=3.4, columns=2)
    for axes, opinion in zip(panels, opinions, strict=True):
        rows = [row for row in tables["detection"] if row["opinion"] == opinion]
        for size, colour in _sized(rows):
            line = [(row["step"], row["auc"]) for row in rows if row["size"] == size]
            axes.plot(*zip(*line, strict=True), color=colour, label=f"{size:g}")
        axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        _mark(axes, chosen)
        axes.set(xscale="log", ylim=(None, 1.02), xlabel="step", ylabel="AUC", title=opinion)
    _legend(figure, panels[0], "size, standard deviations")
    return figure


def _rocs(tables: Tables, chosen: int | None) -> Figure:
    steps = _moments(tables["scores"], chosen)
    figure, panels = _panels(len(steps), height=3.6)
    for axes, step in zip(panels, steps, strict=True):
        by_size = _by_size(tables["scores"], step)
        for size, colour in _sized(tables["scores"]):
            axes.plot(*roc(by_size[0.0], by_size[size]), color=colour, label=f"{size:g}")
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", title=_moment(step, chosen), aspect="equal")
    _legend(figure, panels[0], "size, standard deviations")
    return figure


def _scores(tables: Tables, chosen: int | None) -> Figure:
    steps = _moments(tables["scores"], chosen)
    figure, panels = _panels(len(steps), height=3.4)
    for axes, step in zip(panels, steps, strict=True):
        by_size = _by_size(tables["scores"], step)
        low, high = np.quantile(np.concatenate(list(by_size.values())), (0.002, 0.98))
        bins = np.linspace(low, high, 50).tolist()
        axes.hist(by_size[0.0], bins, density=True, color="#bbbbbb", label="normal")
        for size, colour in _sized(tables["scores"]):
            axes.hist(by_size[size], bins, density=True, histtype="step", color=colour, label=f"{size:g}")
        axes.set(xlabel="score", ylabel="density", title=_moment(step, chosen))
    _legend(figure, panels[0], "size, standard deviations")
    return figure


def _goodness(tables: Tables, chosen: int | None) -> Figure:
    figure, (distances, joint) = _panels(2, height=3.4)
    steps = [row["step"] for row in tables["joint"]]
    for name, colour in (("ks", BLUE), ("wasserstein", RED)):
        bands = [[row[name] for row in tables["features"] if row["step"] == step] for step in steps]
        values = [np.quantile([v for v in band if v is not None] or [np.nan], (0, 0.5, 1)) for band in bands]
        lowest, middle, highest = np.transpose(values)
        distances.plot(steps, middle, color=colour, label=f"{name}, median feature")
        distances.fill_between(steps, lowest, highest, color=colour, alpha=0.15, linewidth=0)
    distances.set(
        xscale="log", ylim=(0, None), xlabel="step", ylabel="distance (band: all features)", title="by feature"
    )
    for name, colour in JOINT.items():
        joint.plot(steps, [row[name] for row in tables["joint"]], color=colour, label=name)
    joint.set(xscale="log", ylim=(0, None), xlabel="step", title="jointly")
    for axes in (distances, joint):
        _mark(axes, chosen)
        axes.legend()
    return figure


def _losses(tables: Tables, chosen: int | None) -> Figure:
    names = list(dict.fromkeys(row["loss"] for row in tables["losses"]))
    figure, panels = _panels(len(names), height=3.0)
    for axes, name in zip(panels, names, strict=True):
        line = [(row["step"], row["value"]) for row in tables["losses"] if row["loss"] == name]
        axes.plot(*zip(*line, strict=True), color=BLUE, marker="o", markersize=3)
        _mark(axes, chosen)
        axes.set(xscale="log", xlabel="step", title=name.replace("_", " "))
    return figure


def _densities(tables: Tables, chosen: int | None) -> Figure:
    def draw(axes: Axes, values: Sequence[float], probabilities: Sequence[float], **style: Any) -> None:
        """Between quantiles that lie as far apart in probability, a histogram of equal masses is their density."""
        grid, density = _density(np.array(values), np.array(probabilities))
        axes.plot(grid, density, **style)

    return _over_training(tables, chosen, draw, "density")


def _shares(tables: Tables, chosen: int | None) -> Figure:
    def draw(axes: Axes, values: Sequence[float], probabilities: Sequence[float], **style: Any) -> None:
        axes.plot(values, probabilities, **style)

    return _over_training(tables, chosen, draw, "share at or below")


def _over_training(tables: Tables, chosen: int | None, draw: Callable[..., None], what: str) -> Figure:
    """A panel a feature: real values in black, generated ones from pale (early) to dark (late)."""
    rows: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in tables["quantiles"]:
        rows.setdefault((row["feature"], row["step"]), []).append((row["value"], row["probability"]))
    features = list(dict.fromkeys(feature for feature, _ in rows))
    steps = sorted({step for _, step in rows if step})
    shown = sorted({*steps[:: max(1, len(steps) // 5)], chosen or steps[-1]})
    figure, panels = _panels(len(features), height=2.6, columns=3)
    for axes, feature in zip(panels, features, strict=True):
        for at, step in enumerate(shown):
            colour = RED if step == chosen else colormaps["Blues"](0.25 + 0.6 * at / len(shown))
            label = _moment(step, chosen)
            draw(axes, *zip(*rows[feature, step], strict=True), color=colour, linewidth=1.2, label=label)
        draw(axes, *zip(*rows[feature, 0], strict=True), color="black", linewidth=1.8, label="real, held out")
        low, high = (rows[feature, 0][end][0] for end in (0, -1))
        margin = 0.15 * (high - low) or 1.0
        axes.set(xlim=(low - margin, high + margin), title=_short(feature), ylabel=what)
    _legend(figure, panels[0], None)
    return figure


def _density(values: np.ndarray[Any, Any], probabilities: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Slope of the quantiles' inverse on an even grid, lightly smoothed."""
    low, high = values[0], values[-1]
    if high - low < 1e-12:
        return [low, low], [0, 1]
    grid = np.linspace(low, high, 60)
    apart = np.maximum.accumulate(values + 1e-9 * (high - low) * np.arange(len(values)))
    share = np.interp(grid, apart, probabilities)
    density = np.gradient(share, grid)
    return grid, np.convolve(np.pad(density, 2, mode="edge"), np.full(5, 0.2), mode="valid")


def _panels(count: int, height: float, columns: int = 3) -> tuple[Figure, list[Axes]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(7.0, 3.4 * columns), height * rows), layout="constrained")
    panels = [figure.add_subplot(rows, columns, at + 1) for at in range(count)]
    return figure, panels


def _legend(figure: Figure, axes: Axes, title: str | None) -> None:
    handles, labels = axes.get_legend_handles_labels()
    inches = 0.55 + 0.075 * max(map(len, labels))
    columns = max(1, int(figure.get_figwidth() // inches))
    figure.legend(handles, labels, title=title, loc="outside lower center", ncols=columns)


def _mark(axes: Axes, chosen: int | None) -> None:
    if chosen is not None:
        axes.axvline(chosen, color=RED, linewidth=1.2, linestyle="--", label="_sweet spot")


def _sized(rows: Rows) -> list[tuple[float, Any]]:
    """Every size of anomaly with its colour, darker for larger."""
    sizes = sorted({row["size"] for row in rows if row["size"]})
    return [(size, colormaps["viridis_r"](0.15 + 0.8 * at / max(1, len(sizes) - 1))) for at, size in enumerate(sizes)]


def _by_size(rows: Rows, step: int) -> dict[float, Any]:
    found: dict[float, list[float]] = {}
    for row in rows:
        if row["step"] == step:
            found.setdefault(row["size"], []).append(row["score"])
    return {size: np.array(scores) for size, scores in found.items()}


def _moments(rows: Rows, chosen: int | None) -> list[int]:
    """The first, the chosen and the last measured step."""
    steps = [row["step"] for row in rows]
    return sorted({min(steps), chosen or max(steps), max(steps)})


def _moment(step: int, chosen: int | None) -> str:
    return f"step {step:,}" + (" (sweet spot)" if step == chosen else "")


def _short(name: str) -> str:
    shown = printable(name if len(name) <= 24 else f"{name[:23]}…")
    return shown.replace("$", r"\$")  # or it would be read as mathematics
