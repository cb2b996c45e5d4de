"""The path of a model: a retraining, from the telemetry to the pointer.

read the window -> keep the normal, cut it by time -> fit, tracking every checkpoint, pick the
sweet spot, calibrate -> gate against the champion -> publish -> report
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from stream_detector.absence import telling
from stream_detector.audit import alerts_topic, feedback_topic
from stream_detector.config import Config
from stream_detector.detector import limits
from stream_detector.errors import (
    ConfigError,
    DataError,
    GateRefusedError,
    ModelError,
    PointerMovedError,
    ReplayMismatchError,
)
from stream_detector.features import Encoded, FeatureSchema, encode
from stream_detector.fitting.contextual import ContextBasis, ContextData
from stream_detector.fitting.fit import HeldOut, fit
from stream_detector.fitting.profiling import with_origins
from stream_detector.gan.settings import ModelConfig
from stream_detector.gan.training import Progress
from stream_detector.kafka import recent
from stream_detector.kafka.recent import Reach
from stream_detector.model import DetectorModel, as_matrix
from stream_detector.records import Alert
from stream_detector.records.feedback import Verdict
from stream_detector.registry import store
from stream_detector.retraining.constant import constant_features, refuse_stuck
from stream_detector.retraining.contender import Contender, Matrix, in_context
from stream_detector.retraining.context_window import context_nines, read_context
from stream_detector.retraining.gate import HOLDOUT, KNOWN, GateResult, Trial, failures, run_checks
from stream_detector.retraining.models_in_force import ModelsInForce
from stream_detector.retraining.normal import AlertLabels
from stream_detector.retraining.reference import Reference
from stream_detector.retraining.report import Report
from stream_detector.retraining.run import Plan, begun, ended, tidy, unfinished
from stream_detector.retraining.split import GuardBand, Records, WindowSplit, split_window
from stream_detector.retraining.telemetry_window import TelemetryReader, TelemetryWindow, read_records, read_window
from stream_detector.tracking.run_directory import RunDirectory

__all__ = ["RetrainingResult", "Trigger", "learn", "repeat", "retrain"]

MOST_KNOWN = 200  # confirmed anomalies that the gate tries

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Trigger:
    """The reason for a retraining, and the time from which it reads (epoch ms); None = as the configuration says."""

    why: str
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RetrainingResult:
    """A retraining that came to its end: the model, whether it was published, and what the gate said."""

    model: DetectorModel
    gate: GateResult
    run: RunDirectory
    published: bool

    def refusal(self) -> GateRefusedError:
        """The error of a model that the gate refused."""
        return GateRefusedError(
            f"model {self.model.version[:12]} was refused, nothing is changed: {'; '.join(failures(self.gate))}; "
            f"all figures: {self.run.path / 'report.md'}"
        )


def retrain(
    config: Config, trigger: Trigger, who: str, progress: Progress, *, publish: bool = True
) -> RetrainingResult:
    """Retrains on recent normal telemetry; publishes the model if the gate lets it through and `publish`.

    A retraining that was interrupted goes on instead. Raises `DataError` when there is too little
    to learn from, `ModelError` when a model cannot be fetched or fitted, `PointerMovedError` when
    the pointer was moved meanwhile, or a `KafkaError`; then the models topic's pointer is unchanged.
    """
    in_force = ModelsInForce.load(config)
    reference = _reference(config, in_force)
    digest = reference.digest if reference else None
    with ExitStack() as held:
        run, plan = _run(config, trigger, in_force, held)
        try:
            model, holdout = learn(config, plan, in_force, progress, run)
            model.save(run.path / "model.safetensors")
            gate = _gate(config, plan, in_force, reference, model, holdout)
            published = publish and gate.passed
            if published:
                store.publish(config, model.to_bytes(), who, plan.why, expected=in_force.version)
        except (ConfigError, DataError, ModelError, PointerMovedError) as error:  # else a damaged run is tried for ever
            Report(plan.why, in_force.version, None, {}, None, str(error), digest).save(run)
            raise
        result = "published" if published else "not published" if gate.passed else "refused"
        Report(plan.why, in_force.version, model.version, model.lineage, gate, result, digest).save(run)
        tidy(config)
        return RetrainingResult(model, gate, run, published)


def _run(config: Config, trigger: Trigger, in_force: ModelsInForce, held: ExitStack) -> tuple[RunDirectory, Plan]:
    """Takes up the run that was interrupted, or begins a new one."""
    found = held.enter_context(unfinished(config, in_force.version))
    if found is not None:
        log.info("going on with an interrupted run", run=str(found[0].path), why=found[1].why)
        return found
    reader = TelemetryReader(config)
    size = reader.size if reader.many else None
    reach = recent.reach(config, config.retrain.records, _since(config, trigger), size)
    plan = Plan(trigger.why, in_force.version, reach, _labels(config, reach))
    return held.enter_context(begun(config, plan)), plan


def _since(config: Config, trigger: Trigger) -> int | None:
    """The time from which records are read, epoch ms: the trigger's or that of `retrain.since`, the later of both."""
    span = config.retrain.since
    youngest = None if span is None else round(1000 * (time.time() - span.total_seconds()))
    return max((each for each in (trigger.since_ms, youngest) if each is not None), default=None)


def _labels(config: Config, reach: Reach) -> AlertLabels:
    """Collects what alerts and feedback say about the records to read, and all confirmed anomalies."""
    in_time = sorted(feedback_topic.latest(config).items(), key=lambda said: said[1].time)
    flagged = (alert for alert in alerts_topic.everything(config) if _within(alert, reach))
    return AlertLabels(
        frozenset(alert.id for alert in flagged),
        tuple(name for name, said in in_time if said.verdict is Verdict.ANOMALY),
        frozenset(name for name, said in in_time if said.verdict is Verdict.FALSE_ALARM),
    )


def learn(
    config: Config, plan: Plan, in_force: ModelsInForce, progress: Progress, run: RunDirectory | None = None
) -> tuple[DetectorModel, Records]:
    """Fits a model of what `plan` names; returns it with the records held out for the gate.

    The result is a function of the plan, the champion, the configuration and the seed; kept in `run` where given.
    """
    window = read_window(config, plan.reach, progress)
    schema = in_force.schema(config, window)
    window = window.of(schema, config.record)
    split = split_window(window.records, plan.labels, _guard_band(config, plan, in_force, window), config)
    schema = schema.with_vocabularies(record.features for record in split.train)
    schema = with_origins(schema, [record.features for record in split.train])
    train, selection, calibration = (
        _matrix(records, schema, config) for records in (split.train, split.selection, split.calibration)
    )
    constant = constant_features(train, schema)
    refuse_stuck(constant, schema, in_force.champion)
    settings = ModelConfig(model=config.model, inversion=config.inversion)
    held_out = HeldOut(Encoded.whole(selection), Encoded.whole(calibration))
    context = _context(config, plan, schema, split, train) if config.context.enabled else None
    first = in_force.champion is None  # nobody has said yet what is doubtful
    known = Encoded.whole(train), schema, settings, config.seed, config.worker.device
    model = fit(*known, progress, run, held_out, context=context, trim=first)
    return model.with_lineage({**model.lineage, **_lineage(plan, window, split, constant, config)}), split.holdout


def _context(config: Config, plan: Plan, schema: FeatureSchema, split: WindowSplit, train: Matrix) -> ContextData:
    """Reads what contexts say of the normal records, as all records before them have taught; `train` are the first part."""
    record = config.record
    basis = ContextBasis.of(config.context, schema, train, record.entity_path, record.time_path)
    names = [each.id for part in (split.train, split.selection, split.calibration) for each in part]
    return read_context(config, plan.reach, schema, basis, names)


def _guard_band(config: Config, plan: Plan, in_force: ModelsInForce, window: TelemetryWindow) -> GuardBand | None:
    champion = in_force.champion
    if champion is None or not window.records:
        return None
    wide = config.threshold.model_copy(
        update={"target_alert_rate": min(0.4, config.threshold.target_alert_rate * config.retrain.guard_band)}
    )
    view = context_nines(config, plan.reach, champion, [record.id for record in window.records])
    matrix = as_matrix([record.features for record in window.records], champion.schema)
    return GuardBand(in_context(champion, matrix, view), limits(champion, wide).nominal)


def _gate(
    config: Config,
    plan: Plan,
    in_force: ModelsInForce,
    reference: Reference | None,
    model: DetectorModel,
    holdout: Records,
) -> GateResult:
    """Tries the model beside those in force, each with its own contexts, on the hold-out, the known anomalies and the
    reference set.
    """
    known = _known(config, plan.labels, model.schema)
    normal, anomalous = (_matrix(records, model.schema, config) for records in (holdout, known))
    trial = Trial(normal, anomalous, reference, config.threshold.target_alert_rate, config.seed, in_force.since)
    names = [record.id for record in (*holdout, *known)]

    def contender(each: DetectorModel) -> Contender:
        nines = context_nines(config, plan.reach, each, names)
        views = {} if nines is None else {HOLDOUT: nines[: len(holdout)], KNOWN: nines[len(holdout) :]}
        return Contender.of(each, model.schema, config.threshold, views)

    serving, anchor = in_force.champion, in_force.approved
    champion = contender(serving) if serving else None
    approved = champion if anchor is serving else contender(anchor) if anchor else None
    return run_checks(contender(model), champion, approved, trial, config.retrain.gate)


def _known(config: Config, labels: AlertLabels, schema: FeatureSchema) -> Records:
    """Reads the anomalies confirmed last, as far as they are still retained and fit the schema."""
    found = read_records(config, frozenset(labels.anomalous[-MOST_KNOWN:]))
    features = [record.features for record in found]
    rejected = telling(encode(schema, features, config.record.max_string), schema, features).rejected
    return [record for position, record in enumerate(found) if position not in rejected]


def _reference(config: Config, in_force: ModelsInForce) -> Reference | None:
    """Loads the reference set, and tries it on the champion's features before anything is trained."""
    path = config.retrain.gate.reference
    reference = Reference.load(path) if path is not None else None
    if reference is not None and in_force.champion is not None:
        reference.matrix(in_force.champion.schema)
    return reference


def _matrix(records: Records, schema: FeatureSchema, config: Config) -> Matrix:
    return encode(schema, [record.features for record in records], config.record.max_string).matrix


def _lineage(
    plan: Plan, window: TelemetryWindow, split: WindowSplit, constant: list[str], config: Config
) -> dict[str, Any]:
    """The origin of the model as JSON values; nothing in it depends on the clock."""
    return {
        "champion": plan.champion or None,
        "constant": constant,
        "left_out": {**window.unusable, **split.left_out},
        "offsets": window.offsets,
        "parts": split.sizes(),
        "seed": config.seed,
    }


def _within(alert: Alert, reach: Reach) -> bool:
    start, end = reach.get((alert.topic, alert.partition), (0, 0))
    return start <= alert.offset < end


def repeat(config: Config, folder: Path, progress: Progress) -> str:
    """Trains once more what the retraining in `folder` trained; returns the version, which is the same.

    Publishes and writes nothing. Raises `ReplayMismatchError` when another model comes out,
    `ConfigError` when `folder` holds no such run, and what `retrain` raises.
    """
    run, plan, version = ended(config, folder)
    artifact = store.fetch(config, plan.champion) if plan.champion else None
    champion = DetectorModel.from_bytes(artifact, config.worker.device) if artifact else None
    seeded = config.model_copy(update={"seed": run.seed})
    model, _ = learn(seeded, plan, ModelsInForce(champion, None), progress)
    if model.version != version:
        raise ReplayMismatchError(
            f"{folder}: made model {version[:12]}, and now {model.version[:12]}: were records deleted since, by "
            "retention, is this another processor, or have the sections 'retrain', 'context' and 'threshold' changed?"
        )
    return version
