"""Where a transactional producer stands, and which moves are legal."""

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["MOVES", "Standing", "State"]


class State(StrEnum):
    """Where the producer stands."""

    READY = "ready"
    OPEN = "open"
    COMMITTING = "committing"
    ABORTING = "aborting"
    DOUBTFUL = "doubtful"
    CLOSED = "closed"


MOVES: Mapping[State, frozenset[State]] = {
    State.DOUBTFUL: frozenset({State.READY, State.DOUBTFUL, State.CLOSED}),
    State.READY: frozenset({State.OPEN, State.DOUBTFUL, State.CLOSED}),
    State.OPEN: frozenset({State.COMMITTING, State.ABORTING, State.DOUBTFUL}),
    State.COMMITTING: frozenset({State.READY, State.ABORTING, State.DOUBTFUL}),
    State.ABORTING: frozenset({State.READY, State.DOUBTFUL}),
    State.CLOSED: frozenset(),
}
"""The legal moves; any other is a programming error."""


class Standing:
    """The state, moved legally or not at all; DOUBTFUL at first."""

    def __init__(self) -> None:
        self.state = State.DOUBTFUL

    def require(self, state: State) -> None:
        """Raises `RuntimeError` in any other state."""
        if self.state is not state:
            raise RuntimeError(f"illegal move: the transaction is {self.state}, not {state}")

    def move(self, state: State) -> None:
        """Raises `RuntimeError` when the move is not legal."""
        if state not in MOVES[self.state]:
            raise RuntimeError(f"illegal move of the transaction: {self.state} -> {state}")
        self.state = state
