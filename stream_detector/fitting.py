"""From normal records to a fitted model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema
from stream_detector.gan.detection import Probe
from stream_detector.gan.networks import Gan
from stream_detector.gan.run_directory import RunDirectory, fingerprint
from stream_detector.gan.settings import ModelConfig
from stream_detector.gan.tracker import Tracker, measured_steps
from stream_detector.gan.training import Progress, TrainingSet, train
from stream_detector.model import WEIGHTS, DetectorModel, Records, as_matrix, pick_device
from stream_detector.normaliser import Normaliser
from stream_detector.scoring.calibration import Calibration
from stream_detector.scoring.discrimination import FeatureSpread
from stream_detector.scoring.opinions import DetectorOpinions, deciding_opinion
from stream_detector.scoring.scorer import Scorer

__all__ = ["fit"]

FEWEST = 40  # records; below, there is nothing to hold out and calibrate on
MOST_HELD_OUT = 10_000
NO_SCREEN = -1e30  # every record is searched for
FEATURE_ROWS = 20_000  # records whose discriminator features are kept to measure their spread


def fit(
    X: Records,
    schema: FeatureSchema | None = None,
    config: ModelConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    run: RunDirectory | None = None,
) -> DetectorModel:
    """Fit a model to normal records.

    X: float [record, feature] (NaN = missing, codes for categories), or a list of mappings from
    feature name to number, string or None. Without a schema, columns of a matrix are numeric and
    named x0, x1, …; mappings are inferred. `progress` is called with (step, steps, message). The
    same records, config and seed give the same model version on the same CPU and thread count. With
    `run`, the training is measured, plotted and kept there, and one that was interrupted goes on.
    Raises `DataError` when there are fewer than 40 records or they cannot be read, `ModelError`
    when the generator has collapsed.
    """
    config = config or ModelConfig()
    matrix, schema = _read(X, schema)
    if len(matrix) < FEWEST:
        raise DataError(f"{len(matrix)} records are too few to fit a model; give at least {FEWEST}")
    if run is not None:
        run.admit(config.model_dump(mode="json"), seed, fingerprint(matrix, schema))
    learn, held = _split(matrix, config.model.holdout, seed)
    normaliser = Normaliser.fit(schema, learn, config.model.views)
    prepared = normaliser(learn)
    data = TrainingSet(*map(torch.from_numpy, (prepared.views, prepared.context, prepared.present)))
    place = pick_device(device)
    tracker = Tracker(
        Probe.make(normaliser, data, learn, held, seed),
        DetectorOpinions(config.model.prior),
        deciding_opinion(config.model.mode),
        measured_steps(config.model.steps),
        seed,
        run,
    )
    train(data, config.model, seed, place, progress, tracker)
    gan, metrics = tracker.best(), tracker.figures()
    scorer = _scorer(normaliser, gan, data, held, config)
    calibration = Calibration.fit(scorer.raw(held), WEIGHTS[config.model.mode])
    model = DetectorModel(
        scorer, calibration, config, {**metrics, "records": float(len(learn)), "held_out": float(len(held))}, lineage={}
    )
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


@torch.inference_mode()
def _scorer(
    normaliser: Normaliser, gan: Gan, data: TrainingSet, held: NDArray[np.float32], config: ModelConfig
) -> Scorer:
    search = config.search
    spread = FeatureSpread.fit(_features(gan, data, config.model.members))
    unknown = torch.ones(())
    scorer = Scorer(normaliser, gan, spread, unknown, NO_SCREEN, config.model.prior, search)
    usual = scorer.usual_residuals(held).to(gan.encoder.weights[0].device)
    screen = float(np.quantile(scorer.start_objectives(held), search.screen)) if search.screen else NO_SCREEN
    return Scorer(normaliser, gan, spread, usual, screen, config.model.prior, search)


def _features(gan: Gan, data: TrainingSet, members: int) -> Tensor:
    """Discriminator features [member, record, hidden] of training records."""
    device = gan.encoder.weights[0].device
    rows = slice(0, FEATURE_ROWS)
    records = data.views[:, rows].repeat_interleave(members, 0).to(device)
    context = data.context[None, rows].expand(len(records), -1, -1).to(device)
    return gan.judge(records, context)[1]
