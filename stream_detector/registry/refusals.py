"""Models that are not fit to serve: each is named once with its reason, and counted once."""

import structlog

from stream_detector.registry.pointer import Pointer

__all__ = ["Refusals"]

log = structlog.get_logger(__name__)


class Refusals:
    """What a worker has refused, from its start on; their number is its length."""

    def __init__(self) -> None:
        self.standing: str | None = None
        """What the last pointer names and why it is refused; None once another one is considered."""
        self._known: set[tuple[Pointer | None, str]] = set()

    def __len__(self) -> int:
        return len(self._known)

    def note(self, pointer: Pointer | None, error: Exception, serving: str) -> None:
        """A model that a pointer names, or a pointer that is none (None; the error names its offset), is refused.

        Pointed to anew it is another decision, and said again. `serving` is the version that goes on instead.
        """
        version = pointer.version if pointer else "?"
        self.standing = f"model {version[:16]} is refused, {serving[:16]} serves: {error}"
        if (pointer, str(error)) not in self._known:
            self._known.add((pointer, str(error)))
            log.error("model refused, another one serves", version=version, serving=serving, why=str(error))
