"""Names the states of a transaction, and the legal moves between them."""

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["MOVES", "State"]


class State(StrEnum):
    """Says where a transactional producer stands."""

    READY = "ready"
    """Nothing is open; a transaction may begin."""
    OPEN = "open"
    """Messages may be added."""
    COMMITTING = "committing"
    """The offsets are in; the end was asked for."""
    ABORTING = "aborting"
    """The transaction is being taken back."""
    DOUBTFUL = "doubtful"
    """The last outcome is not certain, or there is no producer yet: another one must take over."""
    CLOSED = "closed"
    """The producer is gone for good."""


MOVES: Mapping[State, frozenset[State]] = {
    State.DOUBTFUL: frozenset({State.READY, State.DOUBTFUL, State.CLOSED}),
    State.READY: frozenset({State.OPEN, State.DOUBTFUL, State.CLOSED}),
    State.OPEN: frozenset({State.COMMITTING, State.ABORTING, State.DOUBTFUL}),
    State.COMMITTING: frozenset({State.READY, State.ABORTING, State.DOUBTFUL}),
    State.ABORTING: frozenset({State.READY, State.DOUBTFUL}),
    State.CLOSED: frozenset(),
}
"""The legal moves; any other is a programming error."""
