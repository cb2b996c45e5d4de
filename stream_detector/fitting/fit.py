"""Fits a model to normal records."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from stream_detector.config import ContextConfig
from stream_detector.context.inputs import Given
from stream_detector.errors import DataError
from stream_detector.features import Encoded, FeatureSchema
from stream_detector.fitting.assembling import Assembly, assembled
from stream_detector.fitting.contextual import ContextData, TeachingLogs, contextual, in_time
from stream_detector.fitting.profiling import Learnt, described, learn
from stream_detector.gan.autoencoder_training import latent_width
from stream_detector.gan.settings import ModelConfig
from stream_detector.gan.training import Progress, TrainingSet, train
from stream_detector.model import DetectorModel, as_matrix, pick_device, scored
from stream_detector.runtime.host import undisturbed
from stream_detector.scaling import learn_scales
from stream_detector.scoring.calibration import Calibration
from stream_detector.tables.frames import Records, as_numbers, as_rows
from stream_detector.tracking.detection import Probe
from stream_detector.tracking.detector_opinions import DetectorOpinions
from stream_detector.tracking.generated import near_records
from stream_detector.tracking.run_directory import RunDirectory, fingerprint
from stream_detector.tracking.sweet_spot import Rule
from stream_detector.tracking.tracker import Tracker, measured_steps

__all__ = ["HeldOut", "fit"]

log = logging.getLogger(__name__)

FEWEST = 40  # records; below, there is nothing to hold out and calibrate on
FEWEST_HELD_OUT = 10  # records to calibrate on: one for each scorer that must not know it
LEAST_HELD_OUT, MOST_HELD_OUT = 33, 4_000  # records; of fewer than 66 the half
WARM = 13  # a part of the discriminator's training before which no checkpoint is taken
SPREAD_ROWS = 2_000  # records that tell in how many dimensions they lie
SLACK = 0.01  # of the area under the ROC curve: about its standard error on so few held-out records


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Normal records kept out of training: to choose the checkpoint on, and to calibrate on."""

    selection: Records
    calibration: Records


@undisturbed()
def fit(
    X: Records | Learnt,
    schema: FeatureSchema | None = None,
    config: ModelConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    run: RunDirectory | None = None,
    held_out: HeldOut | None = None,
    *,
    entity: Given | None = None,
    time: Given | None = None,
    offset: Given | None = None,
    context: ContextConfig | ContextData | None = None,
    logs: TeachingLogs | None = None,
    trim: bool = False,
) -> DetectorModel:
    """Fits a model to normal records.

    X: float [record, feature] (NaN = missing, codes for categories), a list of mappings from feature
    name to number, string or None, a DataFrame (pandas, polars, Arrow) or structured array, whose columns
    are taken by name, or what was learnt of such before. Without a schema, columns of a matrix are numeric
    and named x0, x1, …; columns of mappings are what most of their values are. The lineage describes them.
    `progress` is called with (step, steps, message). The same records, config and seed give the same model
    version on the same CPU and thread count. `run` keeps measurements and plots, and an interrupted
    training in it goes on. Without `held_out`, a random share of X is held out for both its purposes.
    With `entity`, `time` [record] or `context`, a record is judged by what its entity did before, too, as `context` says:
    records are one partition's then, in order, and the last fifth is held out. Without an entity, they are all one
    entity's. All are as for `DetectorModel.score`. Where records come from several partitions, `logs` has them; or
    `context` what was read of these, for X and then the records held out.
    `trim` keeps records that lie far beyond all others out of memory and calibration; the lineage's
    `far_tail` has their share, also without it.
    Raises `DataError` when there are fewer than 40 records, or 10 to calibrate on, or they cannot
    be read, `ModelError` when the generator has collapsed.
    """
    config = config or ModelConfig()
    matrix, learnt = _read(X, schema)
    if len(matrix) < FEWEST:
        raise _too_few(len(matrix), "fit a model", FEWEST)
    if logs is None and not (entity is None and time is None and not isinstance(context, ContextConfig)):
        logs = TeachingLogs.one(len(matrix), entity, time, offset)
    data = _contexts(matrix, learnt.schema, context, logs, held_out)
    lineage = {"context": data.described} if data else {}
    if data is None or held_out is not None:
        split = _split(matrix, learnt.schema, held_out, config.model.holdout, seed)
    else:
        train, choose, calibrate = parts = in_time(data.logs, seed)
        data = data.take(np.concatenate(parts))
        split = FitSplit(matrix[train], matrix[choose], matrix[calibrate], matrix)
    if run is not None:
        run.admit(config.model_dump(mode="json"), seed, fingerprint(split.everything, learnt.schema))
    model, assembly = _fitted(split, learnt.schema, config, seed, pick_device(device), progress, run, trim=trim)
    far_tail = {"left_out": assembly.left_out, "share": round(assembly.far, 4)}
    if data is not None:
        told = _saying(progress, "context")
        model = _with_context(model, assembly, split, data, config, seed, pick_device(device), told, trim=trim)
    model = model.with_lineage({**described(learnt, matrix), "far_tail": far_tail, **lineage})
    if assembly.far:
        log.warning(_far_tail_told(assembly))
    if run is not None:
        _keep(model, run)
    return model


def _fitted(
    split: "FitSplit",
    schema: FeatureSchema,
    config: ModelConfig,
    seed: int,
    device: torch.device,
    progress: Progress | None,
    run: RunDirectory | None,
    *,
    trim: bool,
) -> tuple[DetectorModel, Assembly]:
    """Normalises, trains, chooses the checkpoint and calibrates."""
    normaliser = learn_scales(schema, split.learn, config.model.views)
    prepared = normaliser(split.learn)
    data = TrainingSet(*map(torch.from_numpy, (prepared.views, prepared.context, prepared.present)))
    config = _sized(config, data)
    tracker = _tracker(Probe.make(normaliser, data, split.learn, split.selection, seed), config, seed, run)
    train(data, config.model, seed, device, progress, tracker)
    gan, metrics = tracker.best(), tracker.figures()
    made = assembled(normaliser, gan, split.learn, split.calibration, config, trim=trim)
    judged = sum(not feature.context for feature in schema.features)
    calibration = Calibration.fit(made.raw, made.scorer.panel, _dimensions(data.views, judged))
    metrics = {**metrics, "records": float(len(split.learn)), "held_out": float(len(split.calibration))}
    return DetectorModel.made(made.scorer, calibration, config, metrics, made.held, seed), made


def _with_context(
    model: DetectorModel,
    alone: Assembly,
    split: "FitSplit",
    data: ContextData,
    config: ModelConfig,
    seed: int,
    device: torch.device,
    progress: Progress | None,
    *,
    trim: bool,
) -> DetectorModel:
    """Adds the detector of the contexts `data` of the records split, and what joins its nines with those alone."""
    first = len(split.learn)
    cuts = first, first + len(split.selection)
    profiles, data = data.profiled(first)
    projection = data.projection(first)
    learn, selection, calibration = (
        projection(part.columns[part.warm]) for part in map(data.take, np.split(np.arange(len(data.known)), cuts))
    )
    schema = FeatureSchema.numbered(learn.shape[1])
    held = FitSplit(learn, selection, calibration, np.concatenate((learn, selection, calibration)))
    view, made = _fitted(held, schema, config, seed, device, progress, None, trim=trim)
    nines = np.full((2, len(split.calibration)), np.nan, np.float32)
    nines[0, _kept(alone, len(split.calibration))] = _nines(model, alone)
    warm = np.flatnonzero(data.warm[cuts[1] :])
    nines[1, warm[_kept(made, len(warm))]] = _nines(view, made)
    both = ~np.isnan(nines).any(axis=0)
    return replace(model, context=data.model(profiles, projection, *nines[:, both]), view=view)


def _kept(made: Assembly, count: int) -> NDArray[np.bool_]:
    """Which of so many records held out were not left out as far ones, bool [record]."""
    return np.ones(count, np.bool_) if made.near is None else made.near


def _nines(model: DetectorModel, made: Assembly) -> NDArray[np.float32]:
    """The nines [record] of the records held out, as if they were new."""
    return scored(model.calibration, model.scorer.panel, made.raw).anomaly


def _saying(progress: Progress | None, what: str) -> Progress | None:
    """Progress that says what it is about."""
    return progress and (lambda step, steps, message: progress(step, steps, f"{what}: {message}"))


def _contexts(
    matrix: NDArray[np.float32],
    schema: FeatureSchema,
    context: ContextConfig | ContextData | None,
    logs: TeachingLogs | None,
    held_out: HeldOut | None,
) -> ContextData | None:
    """What contexts say of the records: what was read before, or what their logs teach; None without either."""
    if isinstance(context, ContextData) or logs is None:
        return context if isinstance(context, ContextData) else None
    if held_out is not None:
        raise DataError("with entity, time or context the last records of each log are held out: leave out `held_out`")
    return contextual(context or ContextConfig(), schema, matrix, logs)


@dataclass(frozen=True, slots=True)
class FitSplit:
    """Records [record, feature] to `learn` from, to choose the checkpoint on, and to calibrate on; and `everything`."""

    learn: NDArray[np.float32]
    selection: NDArray[np.float32]
    calibration: NDArray[np.float32]
    everything: NDArray[np.float32]


def _split(
    matrix: NDArray[np.float32], schema: FeatureSchema, held_out: HeldOut | None, share: float, seed: int
) -> FitSplit:
    """Splits the records by purpose; without `held_out`, a share of the matrix serves both of its own."""
    if held_out is None:
        learn, held = _random_split(matrix, share, seed)
        return FitSplit(learn, held, held, matrix)
    selection, calibration = (as_matrix(part, schema) for part in (held_out.selection, held_out.calibration))
    if len(calibration) < FEWEST_HELD_OUT:
        raise _too_few(len(calibration), "calibrate on", FEWEST_HELD_OUT)
    return FitSplit(matrix, selection, calibration, np.concatenate((matrix, selection, calibration)))


def _too_few(count: int, purpose: str, least: int) -> DataError:
    records = "record is" if count == 1 else "records are"
    return DataError(f"{count} {records} too few to {purpose}; give at least {least}")


def _sized(config: ModelConfig, data: TrainingSet) -> ModelConfig:
    """The configuration with the latent's width, which the data decide unless it is given."""
    if config.model.latent is not None:
        return config
    settings = config.model.model_copy(update={"latent": latent_width(data.views)})
    return config.model_copy(update={"model": settings})


def _dimensions(views: torch.Tensor, features: int) -> float:
    """Estimates in how many dimensions records [view, record, column] of so many features lie, mean over the views.

    It is the geometric mean of the number of features and the participation ratio of the variances along principal
    axes: distances are mostly those along few wide axes, and what the generator cannot explain lies along the others.
    """
    centred = views[:, :SPREAD_ROWS].double()
    centred = centred - centred.mean(1, keepdim=True)
    covariance = torch.bmm(centred.transpose(1, 2), centred)
    traces = covariance.diagonal(dim1=1, dim2=2).sum(1).square()
    ratio = traces / covariance.square().sum((1, 2)).clamp_min(1e-300)
    return float((ratio.clamp_min(1) * features).sqrt().mean())


def _tracker(probe: Probe, config: ModelConfig, seed: int, run: RunDirectory | None) -> Tracker:
    """Makes the tracker that measures the discriminator's training and chooses its checkpoint."""
    built = config.model.autoencoder_steps
    judging = config.model.steps - built
    opinions, schedule = DetectorOpinions(config.inversion.prior), [built + step for step in measured_steps(judging)]
    rule = Rule(built + judging // WARM, SLACK)
    return Tracker(probe, opinions, "discriminator", schedule, seed, run, near_records, rule)


def _far_tail_told(made: Assembly) -> str:
    told = f"{made.far:.1%} of the held-out records lie far beyond all others, as anomalies do; "
    if made.left_out:
        return f"{told}{made.left_out:,} such records have no part in the model's memory and calibration"
    return f"{told}they were taken for normal, and records like them will not be flagged: leave them out with trim"


def _keep(model: DetectorModel, run: RunDirectory) -> None:
    from stream_detector.tracking.plots import save_plots  # noqa: PLC0415 - matplotlib is optional

    run.save_json("features", model.lineage)
    model.save(run.path / "model.safetensors")
    save_plots(run)


def _read(X: Records | Learnt, schema: FeatureSchema | None) -> tuple[NDArray[np.float32], Learnt]:
    """Reads the records as a matrix, and learns what its features are; odd values of mappings are missing."""
    if not isinstance(X, Learnt) and (rows := as_rows(X)) is not None:
        X = learn(rows, schema)
    if isinstance(X, Learnt):
        return as_matrix(X.rows, X.schema), X
    if not (schema and isinstance(X, Encoded)):
        X = as_numbers(X)
        if not X.shape[1]:
            raise DataError(f"records have shape {list(X.shape)}; give [record, feature]")
        schema = schema or FeatureSchema.numbered(X.shape[1])
        if len(schema.features) == X.shape[1]:
            schema = schema.with_origins(X.T)
    return as_matrix(X, schema), Learnt(schema, ())


def _random_split(
    matrix: NDArray[np.float32], share: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Splits records at random, to learn from and to calibrate on; of few records, more are held out."""
    order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(seed)).numpy()
    few = min(max(len(matrix) // 3, min(len(matrix) // 2, LEAST_HELD_OUT)), 100)
    held = min(max(round(len(matrix) * share), few), MOST_HELD_OUT)
    return matrix[order[held:]], matrix[order[:held]]
