"""Models that are not fit to serve: each is named once with its reason, and counted once."""

import structlog

from stream_detector.kafka.pointer import Pointer

__all__ = ["Refusals"]

log = structlog.get_logger(__name__)


class Refusals:
    """What a worker has refused, from its start on; their number is its length."""

    def __init__(self) -> None:
        self._known: set[tuple[Pointer | None, str]] = set()

    def __len__(self) -> int:
        return len(self._known)

    def note(self, pointer: Pointer | None, error: Exception, serving: str) -> None:
        """A model that a pointer names, or a pointer that is none (None; the error names its offset), is refused.

        Pointed to anew it is another decision, and said again. `serving` is the version that goes on instead.
        """
        if (pointer, str(error)) not in self._known:
            self._known.add((pointer, str(error)))
            version = pointer.version if pointer else "?"
            log.error("model refused, another one serves", version=version, serving=serving, why=str(error))
