"""A time limit for calls of the client that do not keep their own.

After a broker was killed and came back, `send_offsets_to_transaction` of librdkafka 2.16 has been
seen never to return, its timeout notwithstanding. The call is left behind in its thread, and its
producer with it.
"""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException

__all__ = ["bounded"]


def bounded(call: Callable[[], object], limit: float) -> None:
    """Makes a call while the caller waits; raises its exception, or a fatal KafkaException after `limit` seconds."""
    outcome: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again where the caller waits
            outcome.put(error)
        else:
            outcome.put(None)

    Thread(target=work, name="transaction", daemon=True).start()
    try:
        error = outcome.get(timeout=limit)
    except Empty:
        message = f"the client did not return within {limit:.0f} s"
        raise KafkaException(Fault(Fault._TIMED_OUT, message, True, False, False)) from None  # noqa: SLF001
    if error is not None:
        try:
            raise error
        finally:
            del error  # or the exception, this frame and the producer would keep each other alive
