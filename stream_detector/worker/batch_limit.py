"""How many messages a worker takes at once: more while batches are brief, fewer after trouble."""

__all__ = ["FIRST", "BatchLimit"]

FIRST = 16_384  # records a batch at first
BRIEF = 0.15  # seconds: a batch of twice the records still does not last long, and has half of the commits
CALM = 32  # full batches without trouble before the limit grows again
CALMEST = 4_096  # the same after trouble that keeps coming back, at most


class BatchLimit:
    """At most `most` records a batch; `dense` is the most records that a message may hold."""

    def __init__(self, most: int, dense: int = 1) -> None:
        self._most = self._cap = most
        self._records = self._reached = min(most, FIRST)
        self._per_message = float(dense)
        self._calm, self._needed = 0, CALM

    @property
    def messages(self) -> int:
        """Messages to take at once, by how many records the last ones held."""
        return max(1, min(self._cap, int(self._records / self._per_message)))

    def lower(self, messages: int) -> None:
        """A batch of so many messages was too much: half of it from now on."""
        self._records = max(1, int(messages * self._per_message) // 2)
        self._calm, self._needed = 0, min(2 * self._needed, CALMEST)

    def crowded(self, messages: int, enough: int) -> None:
        """A batch of `messages` held too much to be decoded together, and `enough` of them would do."""
        self._cap, self._calm = max(1, min(enough, messages // 2)), 0

    def passed(self, messages: int, records: int, *, judged: bool = True) -> None:
        """A batch went well; records include those that could not be used. What was not judged is no proof of calm."""
        full = messages >= self.messages
        self._per_message = max(1.0, records / messages, self._per_message / 2)  # thin messages may precede thick ones
        if full and judged and (self._records < self._reached or self._cap < self._most):
            self._calm += 1
            if self._calm >= self._needed:
                self._records, self._calm = min(2 * self._records, self._reached), 0
                self._cap = min(2 * self._cap, self._most)

    def lasted(self, seconds: float) -> None:
        """What a turn took under backlog; after trouble the limit grows by calm alone."""
        if seconds < BRIEF and self._records == self._reached:
            self._records = self._reached = min(2 * self._reached, self._most)
