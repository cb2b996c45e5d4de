"""A time limit for calls of the client that do not keep their own.

After a broker was killed and came back, `send_offsets_to_transaction` of librdkafka 2.16 has been
seen never to return, its timeout notwithstanding. The call is left behind in its thread, and its
producer with it.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException

__all__ = ["bounded"]


BEAT = 1.0  # seconds between two signs of life


def bounded(call: Callable[[], object], limit: float, beat: Callable[[], None] = lambda: None) -> None:
    """Makes a call while the caller waits; raises its exception, or a fatal KafkaException after `limit` seconds.

    `beat` is called ever and again meanwhile.
    """
    outcome: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again where the caller waits
            outcome.put(error)
        else:
            outcome.put(None)

    Thread(target=work, name="transaction", daemon=True).start()
    error = _awaited(outcome, limit, beat)
    if error is not None:
        try:
            raise error
        finally:
            del error  # or the exception, this frame and the producer would keep each other alive


def _awaited(
    outcome: SimpleQueue[BaseException | None], limit: float, beat: Callable[[], None]
) -> BaseException | None:
    deadline = time.monotonic() + limit
    while (left := deadline - time.monotonic()) > 0:
        with suppress(Empty):
            return outcome.get(timeout=min(BEAT, left))
        beat()
    message = f"the client did not return within {limit:.0f} s"
    raise KafkaException(Fault(Fault._TIMED_OUT, message, True, False, False))  # noqa: SLF001
