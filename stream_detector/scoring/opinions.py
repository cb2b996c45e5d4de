"""The opinions that a model's scores are made of. A new scorer is a file of its own and one line here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stream_detector.errors import ConfigError
from stream_detector.gan.settings import MODES
from stream_detector.scoring.look import Method, Opinion

__all__ = ["NETWORK_SCORES", "OPINIONS", "Panel", "RawScores", "register"]

NETWORK_SCORES = ("inversion", "nearness", "distance", "verdict")
"""Raw scores of the networks and their memory, in the order in which they are computed and kept."""
VERDICT = 0.3  # weight of the discriminator's verdict beside the distance in its features
OPINIONS: dict[str, Opinion] = {}

Floats = NDArray[np.float64]


def register(*opinions: Opinion) -> None:
    """Adds scorers: models fitted from here on may have them, and what is told is a mode by its name.

    Raises `ConfigError` for a name that is taken, and for a raw score that nothing computes.
    """
    for opinion in opinions:
        computed = {opinion.name} if opinion.method else set(NETWORK_SCORES)
        if unknown := sorted(set(opinion.shares()) - computed):
            raise ConfigError(f"opinion {opinion.name!r} has a raw score {unknown[0]!r} that nothing computes")
        if opinion.name in OPINIONS or (opinion.method and opinion.name in {*MODES, *NETWORK_SCORES, "anomaly"}):
            raise ConfigError(f"there is an opinion, a mode or a score {opinion.name!r} already; give it another name")
        OPINIONS[opinion.name] = opinion
        if opinion.is_told and opinion.name not in MODES:
            MODES.append(opinion.name)


register(
    Opinion("inversion", weight=1.0),
    Opinion("discriminator", {"distance": 1 / (1 + VERDICT), "verdict": VERDICT / (1 + VERDICT)}, weight=1.0),
    Opinion("nearness", weight=2.0, is_told=False),  # it is the inversion's prior
)


@dataclass(frozen=True)
class Panel:
    """The opinions of a model, and the weight of each in its anomaly score.

    What follows from them is computed once: a record alone is scored in less time than that takes.
    """

    opinions: tuple[Opinion, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, mode: str) -> Self:
        """Chooses the opinions of the networks, and those that have a weight in the mode."""
        return cls._with(mode, (name for name, opinion in OPINIONS.items() if _weight(opinion, mode)))

    @classmethod
    def named(cls, mode: str, names: Iterable[str]) -> Self:
        """Chooses the opinions of the networks, and others by name; raises KeyError when one is not registered."""
        return cls._with(mode, names)

    @classmethod
    def _with(cls, mode: str, names: Iterable[str]) -> Self:
        others = [OPINIONS[name] for name in names if OPINIONS[name].method]
        chosen = (*(opinion for opinion in OPINIONS.values() if not opinion.method), *others)
        return cls(chosen, tuple(_weight(opinion, mode) for opinion in chosen))

    @cached_property
    def methods(self) -> Mapping[str, Method]:
        """The methods of the scorers beside the networks' own, by name."""
        return {opinion.name: opinion.method for opinion in self.opinions if opinion.method}

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of a view's raw scores, in the order in which they are kept."""
        return (*NETWORK_SCORES, *self.methods)

    @cached_property
    def told(self) -> tuple[str, ...]:
        """Names of the opinions that stand in scores and alerts."""
        return tuple(opinion.name for opinion in self.opinions if opinion.is_told)

    @cached_property
    def told_places(self) -> NDArray[np.int64]:
        """The places, among all opinions, of those that are told, int64."""
        return np.array([at for at, opinion in enumerate(self.opinions) if opinion.is_told])

    @cached_property
    def weighing(self) -> Floats:
        """The weights as an array, float64 [opinion]."""
        return np.array(self.weights)

    @cached_property
    def _shares(self) -> dict[int, Floats]:
        return {}

    def shares(self, views: int) -> Floats:
        """The weights of each raw score's nines in each opinion [opinion, view * part]; rows sum to 1."""
        if views not in self._shares:
            shares = [[opinion.shares().get(part, 0.0) / views for part in self.parts] for opinion in self.opinions]
            self._shares[views] = np.tile(np.array(shares), views)
        return self._shares[views]


def _weight(opinion: Opinion, mode: str) -> float:
    """The weight of an opinion in the anomaly score of a mode."""
    if mode == "combined":
        return opinion.weight
    return float(opinion.name == ("inversion" if mode == "reconstruction" else mode))


@dataclass(frozen=True, slots=True)
class RawScores:
    """Raw scores of records by name, higher = more anomalous.

    `table` float64 [record, view * part] holds the raw scores that `names` names, those of a view side by side.
    """

    names: tuple[str, ...]
    table: Floats

    @classmethod
    def stacked(cls, parts: Mapping[str, Floats]) -> Self:
        """Puts raw scores [view, record] side by side by name."""
        views, records = next(iter(parts.values())).shape
        table = np.empty((views, len(parts), records))
        for place, part in enumerate(parts.values()):
            table[:, place] = part
        return cls(tuple(parts), table.reshape(views * len(parts), records).T)

    @classmethod
    def joined(cls, blocks: Sequence["RawScores"]) -> Self:
        """Joins blocks of records, at least one, one after the other."""
        if len(blocks) == 1:
            return cls(blocks[0].names, blocks[0].table)
        return cls(blocks[0].names, np.concatenate([block.table for block in blocks]))

    @property
    def views(self) -> int:
        """The number of views."""
        width: int = self.table.shape[1]
        return width // len(self.names)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, name: str) -> Floats:
        """Raw scores [record, view] of that name."""
        return self.table[:, self.names.index(name) :: len(self.names)]
