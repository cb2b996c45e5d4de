"""Makes a scorer of trained networks, and its scores of records that it has learnt nothing of.

Some of what a scorer needs is learnt of records that were held out of training: the spread of the
discriminator's features, the usual residuals, the screen. A score by them of those very records is
too low, by far where they are few. So what calibrates a model are scores by ten other scorers: each
has learnt nothing of the tenth of the held-out records that it scores.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.fitting.far_tail import FarTail
from stream_detector.gan.memory import capacity, selected
from stream_detector.gan.networks import Gan
from stream_detector.gan.settings import ModelConfig
from stream_detector.normaliser import Normaliser
from stream_detector.scoring.device import raw_scores
from stream_detector.scoring.discrimination import FeatureSpread
from stream_detector.scoring.opinions import Panel, RawScores
from stream_detector.scoring.scorer import Scorer, Screen, remembered

__all__ = ["Assembly", "assembled"]

Matrix = NDArray[np.float32]

FEATURE_ROWS = 4_096  # records that tell how the discriminator's features spread
FOLDS = 10  # of the held-out records
EXPLAINED = 500  # held-out records that tell how large a residual is usual


@dataclass(frozen=True, slots=True)
class Assembly:
    """A scorer, its `raw` scores of the `held` records [record, feature] that it was made with, as if
    they were new to it; and the share of the held-out records that was far, and how many far ones were left out.
    `near` bool [record] are those of the records held out that `held` has; None: all.
    """

    scorer: Scorer
    held: Matrix
    raw: RawScores
    far: float = 0.0
    left_out: int = 0
    near: NDArray[np.bool_] | None = None


def assembled(
    normaliser: Normaliser, gan: Gan, learn: Matrix, held: Matrix, config: ModelConfig, *, trim: bool
) -> Assembly:
    """Makes the scorer of networks that were trained on `learn`; with `trim`, far records have no part in it."""
    made, own = _assembled(normaliser, gan, learn, held, config)
    tail = FarTail.of(made.raw.table)
    far = tail.holds(made.raw.table)
    share = float(far.mean())
    if not (trim and far.any()):
        return replace(made, far=share)
    near = ~tail.holds(raw_scores(made.scorer, learn, own).table)
    again, _ = _assembled(normaliser, gan, learn[near], held[~far], config)
    return replace(again, far=share, left_out=int(far.sum() + (~near).sum()), near=~far)


def _assembled(
    normaliser: Normaliser, gan: Gan, learn: Matrix, held: Matrix, config: ModelConfig
) -> tuple[Assembly, NDArray[np.int64]]:
    """The scorer with all records, and where it keeps those of `learn` [record], -1 for those that it does not keep.

    Held-out records join the memory if it can hold all records, and then are scored as if they were
    not there: to the model they are as new as any other. Else it holds only records trained on.
    """
    columns = int(normaliser.layout.judged().sum())
    everything = np.concatenate((learn, held))
    count = capacity(config.model.memory, len(everything), len(config.model.views), columns)
    chosen = np.arange(count) if count == len(everything) else _selected(normaliser, learn, min(count, len(learn)))
    own = np.full(len(everything), -1)
    own[chosen] = np.arange(len(chosen))
    kept, own_learn, own_held = everything[chosen], own[: len(learn)], own[len(learn) :]
    bare = _bare(normaliser, gan, kept, config)
    features = bare.features(everything[-FEATURE_ROWS:], own[-FEATURE_ROWS:])
    scorer, raw = _settled(bare, features, held, own_held), _as_new(bare, features, held, own_held)
    return Assembly(scorer, held, raw), own_learn


def _bare(normaliser: Normaliser, gan: Gan, kept: Matrix, config: ModelConfig) -> Scorer:
    """A scorer that has learnt nothing of held-out records yet."""
    memory = remembered(normaliser, gan, kept)
    hidden = gan.discriminator.weights[-1].shape[:2]
    zeros = memory.records.new_zeros
    unknown = FeatureSpread(zeros(hidden[0], 1, hidden[1]), zeros(*hidden, hidden[1]))
    screen = Screen.everyone(len(config.model.views))
    panel = Panel.of(config.model.mode)
    learnt = {name: tuple(method.learn(normaliser(kept))) for name, method in panel.methods.items()}
    return Scorer(normaliser, gan, kept, memory, unknown, gan.gauge.spread, screen, config.search, panel, learnt)


def _settled(bare: Scorer, features: Tensor, held: Matrix, own: NDArray[np.int64]) -> Scorer:
    """Completes the scorer with what is learnt of held-out records, and the spread of `features` [member, record, hidden]."""
    scorer = replace(bare, spread=FeatureSpread.fit(features))
    scorer = replace(scorer, residual_rms=scorer.usual_residuals(held[:EXPLAINED]).to(bare.memory.records.device))
    if scorer.search.steps and scorer.search.screen:
        refined, starts = (raw_scores(each, held, own)["inversion"] for each in (scorer, scorer.without_search()))
        scorer = replace(scorer, screen=Screen.fit(starts, refined, scorer.search.screen))
    return scorer


def _as_new(bare: Scorer, features: Tensor, held: Matrix, own: NDArray[np.int64]) -> RawScores:
    """Raw scores of held-out records, each by a scorer that has learnt nothing of it: what a new record meets.

    `features` [member, record, hidden] are those of the last records learnt from and of the held-out ones, or of the
    last held-out ones.
    """
    names = bare.panel.parts
    raw = np.empty((len(held), len(names) * len(bare.normaliser.views)))
    fold = np.arange(len(held)) % FOLDS
    rows = features.shape[1]
    for left_out in range(FOLDS):
        mine = fold == left_out
        known = np.concatenate((np.ones(max(0, rows - len(held)), np.bool_), ~mine[-rows:]))
        scorer = _settled(bare, features[:, torch.from_numpy(known).to(features.device)], held[~mine], own[~mine])
        raw[mine] = raw_scores(scorer, held[mine], own[mine]).table
    return RawScores(names, raw)


def _selected(normaliser: Normaliser, learn: Matrix, count: int) -> NDArray[np.int64]:
    """The positions of the records that the discriminator was trained with."""
    normalised = normaliser(learn)
    chosen = selected(torch.from_numpy(normalised.views), torch.from_numpy(normalised.context), count)
    positions: NDArray[np.int64] = chosen.numpy()
    return positions
