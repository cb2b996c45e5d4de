"""Calls with a limit of their own."""

import threading
from functools import partial

import pytest
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException

from stream_detector.kafka.faults import FaultClass, classify
from stream_detector.worker.output.producer import call_within


def test_a_call_that_never_returns_is_a_fatal_timeout():
    """A client that hangs costs its producer, not the worker."""
    never = threading.Event()
    with pytest.raises(KafkaException) as caught:
        call_within(0.05, never.wait)
    fault = caught.value.args[0]
    assert (fault.code(), classify(fault)) == (Fault._TIMED_OUT, FaultClass.FATAL)
    never.set()


def test_what_a_call_raises_comes_out_unchanged():
    """An exception of the call is the caller's, and a call that succeeds has been made when this returns."""
    made = []
    call_within(5, partial(made.append, 1))
    assert made == [1]
    with pytest.raises(ZeroDivisionError):
        call_within(5, lambda: 1 / 0)
