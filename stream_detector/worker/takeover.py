"""Replaces a producer in doubt by another one, and ends what the one before it left open."""

from collections.abc import Callable

from stream_detector.worker.output.transaction import Transaction
from stream_detector.worker.output.transactional_output import TransactionalOutput
from stream_detector.worker.source import Source

__all__ = ["Takeover"]


class Takeover:
    """Replaces a worker's producers; `made` counts them, `swept` says whether nothing is left of those before the last one.

    Partitions whose state is in doubt are rewound, to be restored. `failed` is called where a step does not
    succeed, which is then to be tried again. `topics` are those that the worker writes to.
    """

    def __init__(
        self,
        transaction: Transaction,
        output: TransactionalOutput,
        source: Source,
        topics: tuple[str, ...],
        failed: Callable[[], None],
    ) -> None:
        self.made = 0
        self._transaction, self._output, self._source = transaction, output, source
        self._topics, self._failed = topics, failed
        self.swept = False

    def replace(self, *, retired: bool) -> bool:
        """Makes another producer for one in doubt; whether there is a producer then.

        A producer that `retired` leaves nothing in doubt, so partitions stay as they are.
        """
        if not retired:
            self._source.rewind([owned.name for owned in self._source.assignment.reading])
        self.swept = False
        if self._transaction.take_over():
            self.made += 1
            return True
        self._give_up()
        return False

    def sweep(self) -> bool:
        """Ends what producers before this one left open, once by each producer; whether that is done."""
        owned = self._source.assignment.owned
        if not self.swept and owned:
            self._output.written = self._topics
            self.swept = self._transaction.sweep(
                self._topics, {owned[0]: 0}, self._source.membership, self._output.on_swept
            )
            if not self.swept:
                self._give_up()
        return self.swept

    def _give_up(self) -> None:
        self._source.rewind([owned.name for owned in self._source.assignment.reading])
        self._failed()
