"""Another producer takes the place of one in doubt, and nothing is left of the one before it."""

from collections.abc import Callable

from stream_detector.worker.output.outbox import Outbox
from stream_detector.worker.output.standing import State
from stream_detector.worker.output.transaction import Transaction
from stream_detector.worker.source import Source

__all__ = ["Takeover"]


class Takeover:
    """Replaces a worker's producers; `made` counts them.

    What cannot be certain to be as the worker knows it is displaced, to be placed anew. `failed` is called where a step
    does not succeed, which is then to be tried again. `topics` are those that the worker writes to.
    """

    def __init__(
        self,
        transaction: Transaction,
        outbox: Outbox,
        source: Source,
        topics: tuple[str, ...],
        failed: Callable[[], None],
    ) -> None:
        self.made = 0
        self._transaction, self._outbox, self._source = transaction, outbox, source
        self._topics, self._failed = topics, failed
        self._swept = False

    def replace(self) -> bool:
        """Makes another producer for one in doubt, or one to be retired; whether there is a producer then.

        Of one that retires nothing is in doubt, so that partitions stay as they are.
        """
        retired = self._transaction.retire()
        if self._transaction.state is not State.DOUBTFUL:
            return True
        if not retired:
            self._source.displace(self._source.assignment.placed)
        self._swept = False
        if self._transaction.take_over():
            self.made += 1
            return True
        self._give_up()
        return False

    def sweep(self) -> bool:
        """Makes sure that nothing is left of producers before this one, once by each; whether nothing is."""
        owned = self._source.assignment.owned
        if not self._swept and owned:
            self._swept = self._outbox.sweep(self._topics, {owned[0]: 0}, self._source.membership)
            if not self._swept:
                self._give_up()
        return self._swept

    def _give_up(self) -> None:
        self._source.displace(self._source.assignment.placed)
        self._failed()
