"""A model about to take over: its judge, and the thresholds that partitions have under it.

The thresholds are made ready beside the worker's loop. What is left for the moment of the change
are the records judged since.
"""

from collections.abc import Mapping

from stream_detector.records import TopicPartition
from stream_detector.scoring.threshold import RollingThreshold
from stream_detector.worker.judge import Judge
from stream_detector.worker.partitions.history import Past
from stream_detector.worker.partitions.restore import backwards, restored

__all__ = ["Candidate"]


class Candidate:
    """Used by one thread at a time: by the one that prepares it, then by the worker's."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self._ready: dict[TopicPartition, tuple[RollingThreshold, int | None]] = {}

    def prepare(self, pasts: Mapping[TopicPartition, Past]) -> None:
        """Finds the thresholds after these pasts; done again, it only scores what is new in them."""
        for partition, past in pasts.items():
            if threshold := self.threshold(partition, past):
                self._ready[partition] = threshold, past.last

    def threshold(self, partition: TopicPartition, past: Past) -> RollingThreshold | None:
        """The threshold that the next record meets; None when the past does not reach back far enough.

        It is equal to one rebuilt from the log. Asked for the same partition again, it goes on from there.
        """
        threshold, last = self._ready.pop(partition, (None, None))
        newer = past.after(last) if threshold else None
        if threshold is None or newer is None:
            return self._rebuilt(past)
        threshold.learn(self.judge.scores(newer))
        return threshold

    def _rebuilt(self, past: Past) -> RollingThreshold | None:
        limits = self.judge.limits
        threshold = restored(limits, backwards(past.messages, self.judge.limit), self.judge.scores)
        return threshold if threshold.seen >= limits.window or past.whole else None
