"""Follows a training: measures it now and then, keeps its checkpoints, and picks the one to use.

The fit touches it in two places: `training.train(..., callback=tracker)` tells it of every step, and
`tracker.best()` is the networks to go on with. At a few steps (`measured_steps`) the averaged
networks are asked to tell synthetic anomalies from held-out normal records, which chooses the
checkpoint. With a run directory every such step also measures the generator, and all of it is kept;
the choice, and so the model, is the same with and without.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from torch import Tensor

from stream_detector.errors import ConfigError, ModelError
from stream_detector.gan.networks import Gan
from stream_detector.gan.optimisation import TrainingState
from stream_detector.tracking.detection import Opinions, Probe, detection
from stream_detector.tracking.events import Events
from stream_detector.tracking.generated import Generated, Prior, real_quantiles, standard_normal
from stream_detector.tracking.goodness import JointFit, is_collapsed
from stream_detector.tracking.run_directory import RunDirectory, Tables
from stream_detector.tracking.sweet_spot import HIGHEST, Rule, SweetSpot, sweet_spot

__all__ = ["Tracker", "measured_steps"]

MEASUREMENTS = 16  # at most, in a fit: together they cost about one step in a hundred
LEAST_APART = 50  # steps between two measurements, on average
JOINT = ("energy", "coverage", "density", "precision", "diversity")


def measured_steps(steps: int) -> tuple[int, ...]:
    """The steps at which a training of `steps` is measured: half early, geometric; half even, to the last."""
    count = max(2, min(MEASUREMENTS, steps // LEAST_APART))
    late = np.linspace(0, steps, count - count // 2 + 1)[1:]
    early = np.geomspace(min(max(1, steps / 50), late[0]), late[0], count // 2 + 1)[:-1]
    return tuple(np.unique(np.round(np.concatenate((early, late))).astype(int)).tolist())


class Tracker:
    """Watches one training.

    `schedule` are the steps to measure at; `opinions` says what the networks make of the `probe`,
    and the one called `decides` chooses the checkpoint by the `rule`. With `run`, everything is kept there, and
    a training that `run` holds the beginning of goes on from its last measured step. Generated
    records have latents of `prior`.
    """

    def __init__(
        self,
        probe: Probe,
        opinions: Opinions,
        decides: str,
        schedule: Sequence[int],
        seed: int,
        run: RunDirectory | None = None,
        prior: Prior = standard_normal,
        rule: Rule = HIGHEST,
    ) -> None:
        self._probe, self._opinions, self._decides = probe, opinions, decides
        self._schedule, self._seed, self._run, self._prior = frozenset(schedule), seed, run, prior
        self._rule = rule
        self._snapshots: dict[int, Gan] = {}
        self._tables: Tables = {"detection": [], "losses": []}
        self._events: Events | None = None

    def begin(self, state: TrainingState) -> int:
        """Returns the number of steps that are done already; restores `state` from the run directory if they are more than 0.

        Raises `ConfigError` when the kept state is another training's.
        """
        if self._run is None:
            return 0
        kept = self._run.load_state()
        done = kept[0] if kept else 0
        if kept:
            self._resume(state, *kept)
        else:
            self._tables["quantiles"] = [{"step": 0, **row} for row in real_quantiles(self._probe)]
        self._events = Events(self._run.events, done)
        return done

    def after(self, step: int, state: TrainingState, losses: Mapping[str, Tensor]) -> None:
        """Measures, if `step` is one to measure at."""
        if step not in self._schedule:
            return
        new = self._measure(step, state.average, losses)
        for name, rows in new.items():
            self._tables.setdefault(name, []).extend(rows)
        self._snapshots[step] = state.average.map(lambda tensor: tensor.detach().clone())
        if self._run is not None and self._events is not None:
            self._events.add(step, new)
            self._run.save_tables(self._tables)
            self._run.save_checkpoint(step, dict(state.average.tensors()))
            self._run.save_state(step, state.tensors())

    def best(self) -> Gan:
        """The averaged networks at the sweet spot; the training is over.

        Raises `ModelError` when their generator has collapsed: it could not explain normal records.
        """
        chosen = self._snapshots[self.finish().step]
        _refuse_collapsed(Generated.draw(chosen, self._probe, self._seed, self._prior).joint(self._probe))
        return chosen

    def finish(self) -> SweetSpot:
        """The sweet spot of a training that is over, kept in the run directory."""
        if self._run is not None and self._events is not None:
            self._events.close()
            self._run.save_json("sweet_spot", {**asdict(self.sweet_spot), "opinion": self._decides})
        return self.sweet_spot

    @property
    def sweet_spot(self) -> SweetSpot:
        """The chosen step and why; there must have been a measurement."""
        areas: dict[int, list[float]] = {}
        for row in self._tables["detection"]:
            if row["opinion"] == self._decides:
                areas.setdefault(row["step"], []).append(row["auc"])
        return sweet_spot(list(areas), list(areas.values()), self._rule)

    def figures(self) -> dict[str, float]:
        """Figures of the training for the model's artifact: the sweet spot and the last losses."""
        spot = self.sweet_spot
        last = {row["loss"]: row["value"] for row in self._tables["losses"]}
        return {"sweet_spot_step": float(spot.step), "sweet_spot_auc": spot.auc, **last}

    def _measure(self, step: int, gan: Gan, losses: Mapping[str, Tensor]) -> Tables:
        """Measures the rows of one step; without a run directory those alone that choose the checkpoint."""
        scores = self._opinions(gan, self._probe)
        names = [self._decides] if self._run is None else list(scores)
        found = [asdict(one) for name in names for one in detection(name, scores[name], self._probe.sizes)]
        tables: Tables = {
            "detection": found,
            "losses": [{"loss": name, "value": float(loss)} for name, loss in losses.items()],
        }
        if self._run is not None:
            generated = Generated.draw(gan, self._probe, self._seed, self._prior)
            pairs = zip(self._probe.sizes.tolist(), scores[self._decides].tolist(), strict=True)
            tables |= {
                "scores": [{"size": size, "score": score} for size, score in pairs],
                "features": generated.by_feature(self._probe),
                "joint": [_mean(generated.joint(self._probe))],
                "quantiles": generated.quantiles(self._probe),
            }
        return {name: [{"step": step, **row} for row in rows] for name, rows in tables.items()}

    def _resume(self, state: TrainingState, done: int, tensors: Mapping[str, Tensor]) -> None:
        assert self._run is not None
        self._tables = self._run.load_tables(done)
        try:
            state.restore(tensors)
            for step in sorted({row["step"] for row in self._tables["losses"]}):
                self._snapshots[step] = _as(state.average, self._run.load_checkpoint(step))
        except (KeyError, RuntimeError):
            raise ConfigError(f"{self._run.path}: its checkpoints are of other networks; start a new run") from None


def _as(like: Gan, tensors: Mapping[str, Tensor]) -> Gan:
    """The networks that `tensors` are, on the device of `like`."""
    names = {id(tensor): name for name, tensor in like.tensors()}
    return like.map(lambda tensor: tensors[names[id(tensor)]].to(tensor.device))


def _mean(fits: Sequence[JointFit]) -> dict[str, float]:
    """Mean over the members of every figure, and the share of members that have collapsed."""
    means = {name: float(np.mean([getattr(fit, name) for fit in fits])) for name in JOINT}
    return {**means, "collapsed": float(np.mean([is_collapsed(fit) for fit in fits]))}


def _refuse_collapsed(fits: Sequence[JointFit]) -> None:
    for member, fit in enumerate(fits, start=1):
        if is_collapsed(fit):
            raise ModelError(
                f"generator {member} of {len(fits)} has collapsed: its records come near {fit.coverage:.0%} of the normal "
                f"ones and vary {fit.diversity:.2f} times as much; fit with more model.steps, a lower "
                "model.adversarial, or another seed"
            )
