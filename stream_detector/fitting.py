"""From normal records to a fitted model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema
from stream_detector.gan.detection import Probe
from stream_detector.gan.generated import near_records
from stream_detector.gan.networks import Gan
from stream_detector.gan.rebuilding import latent_width
from stream_detector.gan.run_directory import RunDirectory, fingerprint
from stream_detector.gan.settings import ModelConfig
from stream_detector.gan.sweet_spot import Rule
from stream_detector.gan.tracker import Tracker, measured_steps
from stream_detector.gan.training import Progress, TrainingSet, train
from stream_detector.model import WEIGHTS, DetectorModel, Records, as_matrix, pick_device
from stream_detector.normaliser import Normaliser
from stream_detector.scoring.calibration import Calibration
from stream_detector.scoring.discrimination import FeatureSpread
from stream_detector.scoring.memory import capacity, selected
from stream_detector.scoring.opinions import DetectorOpinions
from stream_detector.scoring.scorer import PARTS, Scorer, remembered
from stream_detector.scoring.screen import Screen

__all__ = ["HeldOut", "fit"]

FEWEST = 40  # records; below, there is nothing to hold out and calibrate on
MOST_HELD_OUT = 4_000
FEATURE_ROWS = 4_096  # records that tell how the discriminator's features spread
WARM = 13  # a part of the discriminator's training before which no checkpoint is taken
SLACK = 0.01  # of the area under the ROC curve: about its standard error on so few held-out records
EXPLAINED = 500  # held-out records that tell how large a residual is usual


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Normal records kept out of training: to choose the checkpoint on, and to calibrate on."""

    selection: Records
    calibration: Records


def fit(
    X: Records,
    schema: FeatureSchema | None = None,
    config: ModelConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    run: RunDirectory | None = None,
    held_out: HeldOut | None = None,
) -> DetectorModel:
    """Fit a model to normal records.

    X: float [record, feature] (NaN = missing, codes for categories), or a list of mappings from
    feature name to number, string or None. Without a schema, columns of a matrix are numeric and
    named x0, x1, …; mappings are inferred. `progress` is called with (step, steps, message). The
    same records, config and seed give the same model version on the same CPU and thread count. With
    `run`, the training is measured, plotted and kept there, and one that was interrupted goes on.
    Without `held_out`, a random share of X is held out for both its purposes.
    Raises `DataError` when there are fewer than 40 records or they cannot be read, `ModelError`
    when the generator has collapsed.
    """
    config = config or ModelConfig()
    matrix, schema = _read(X, schema)
    if len(matrix) < FEWEST:
        raise DataError(f"{len(matrix)} records are too few to fit a model; give at least {FEWEST}")
    if held_out is None:
        learn, held = _split(matrix, config.model.holdout, seed)
        calibrating = held
    else:
        learn, held, calibrating = matrix, *(as_matrix(p, schema) for p in (held_out.selection, held_out.calibration))
        matrix = np.concatenate((learn, held, calibrating))
    if run is not None:
        run.admit(config.model_dump(mode="json"), seed, fingerprint(matrix, schema))
    normaliser = Normaliser.fit(schema, learn, config.model.views)
    prepared = normaliser(learn)
    data = TrainingSet(*map(torch.from_numpy, (prepared.views, prepared.context, prepared.present)))
    place = pick_device(device)
    settings = config.model
    if settings.latent is None:
        settings = settings.model_copy(update={"latent": latent_width(data.views)})
        config = config.model_copy(update={"model": settings})
    judging = settings.steps - settings.building_steps
    tracker = Tracker(
        Probe.make(normaliser, data, learn, held, seed),
        DetectorOpinions(config.inversion.prior),
        "discriminator",
        [settings.building_steps + step for step in measured_steps(judging)],
        seed,
        run,
        near_records,
        Rule(settings.building_steps + judging // WARM, SLACK),
    )
    train(data, settings, seed, place, progress, tracker)
    gan, metrics = tracker.best(), tracker.figures()
    scorer, raw = _scorer(normaliser, gan, learn, calibrating, config)
    calibration = Calibration.fit(raw, WEIGHTS[settings.mode])
    metrics = {**metrics, "records": float(len(learn)), "held_out": float(len(calibrating))}
    model = DetectorModel.made(scorer, calibration, config, metrics, calibrating, seed)
    if run is not None:
        _keep(model, run)
    return model


def _keep(model: DetectorModel, run: RunDirectory) -> None:
    from stream_detector.gan.plots import save_plots  # noqa: PLC0415 - matplotlib is optional

    model.save(run.path / "model.safetensors")
    save_plots(run)


def _read(
    X: Records,
    schema: FeatureSchema | None,
) -> tuple[NDArray[np.float32], FeatureSchema]:
    if isinstance(X, Sequence) and X and isinstance(X[0], Mapping):
        rows: Sequence[Mapping[str, Any]] = X  # type: ignore[assignment]
        schema = schema.with_vocabularies(rows) if schema else FeatureSchema.inferred(rows)
    elif schema is None:
        table = np.asarray(X, dtype=np.float64)
        if table.ndim != 2 or not table.shape[1]:
            raise DataError(f"records have shape {list(table.shape)}; give [record, feature]")
        schema = FeatureSchema.numbered(table.shape[1])
    return as_matrix(X, schema), schema


def _split(matrix: NDArray[np.float32], share: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Records to learn from and records to calibrate on; of few records, more are held out."""
    order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(seed)).numpy()
    few = min(len(matrix) // 3, 100)
    held = min(max(round(len(matrix) * share), few), MOST_HELD_OUT)
    return matrix[order[held:]], matrix[order[:held]]


def _scorer(
    normaliser: Normaliser, gan: Gan, learn: NDArray[np.float32], held: NDArray[np.float32], config: ModelConfig
) -> tuple[Scorer, NDArray[np.float64]]:
    """The scorer, and its raw scores of held-out records.

    Held-out records join the memory if it can hold all records, and then are scored as if they were
    not there: to the model they are as new as any other. Else it holds only records trained on.
    """
    columns = int(normaliser.layout.judged().sum())
    everything = np.concatenate((learn, held))
    count = capacity(config.model.memory, len(everything), len(config.model.views), columns)
    chosen = np.arange(count) if count == len(everything) else _selected(normaliser, learn, min(count, len(learn)))
    own = np.full(len(everything), -1)
    own[chosen] = np.arange(len(chosen))
    kept, own_held = everything[chosen], own[len(learn) :]
    normal, own_normal = everything[-FEATURE_ROWS:], own[-FEATURE_ROWS:]
    memory = remembered(normaliser, gan, kept)
    hidden = gan.discriminator.weights[-1].shape[:2]
    unknown = FeatureSpread(torch.zeros(hidden[0], 1, hidden[1]), torch.zeros(*hidden, hidden[1])).to(
        memory.records.device
    )
    search = config.search
    screen = Screen.everyone(len(config.model.views))
    scorer = Scorer(normaliser, gan, kept, memory, unknown, gan.gauge.spread, screen, search)
    scorer = replace(scorer, spread=FeatureSpread.fit(scorer.features(normal, own_normal)))
    scorer = replace(scorer, usual=scorer.usual_residuals(held[:EXPLAINED]).to(memory.records.device))
    if search.steps and search.screen:
        refined = scorer.raw(held, own_held)[:, ::PARTS]
        scorer = replace(scorer, screen=Screen.fit(scorer.starts(held, own_held), refined, search.screen))
    return scorer, scorer.raw(held, own_held)


def _selected(normaliser: Normaliser, learn: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The same records that the discriminator was trained with."""
    normalised = normaliser(learn)
    chosen = selected(torch.from_numpy(normalised.views), torch.from_numpy(normalised.context), count)
    positions: NDArray[np.int64] = chosen.numpy()
    return positions
