"""What must hold of a run, and in words what did not."""

from collections.abc import Collection, Iterator, Mapping

from benchmarks.drift.dispositions import Dispositions
from benchmarks.drift.figures import Phase
from benchmarks.drift.operation import WORKERS

__all__ = ["broken_promises"]

MANY = 3.0  # times the target: what drift must raise the alert rate to
TOLERANCE = 0.3  # of the target: how far the alert rate may be from it afterwards


def broken_promises(
    found: Mapping[str, Phase], target: float, swapped: Collection[str], done: Dispositions, *, caused: bool
) -> Iterator[str]:
    """The promises that were not kept; `swapped` are the workers that took the new model up, `caused` says
    whether a drift event after the release had it trained.
    """
    before, drift, after = (found[name] for name in ("before", "drift", "after"))
    if drift.rate < MANY * target:
        yield f"the drift raised the alert rate to {drift.rate:.2%} only, less than {MANY:g} times the target"
    if not caused:
        yield "the retraining was not started by a drift event after the release"
    if abs(after.rate - target) > TOLERANCE * target:
        yield f"the alert rate afterwards, {after.rate:.2%}, is not within {TOLERANCE:.0%} of {target:.2%}"
    if after.recall < before.recall:
        yield f"{after.recall:.1%} of the faults are detected afterwards, {before.recall:.1%} before"
    if not before.faults or not after.faults:
        yield "there was no fault to detect"
    if missing := set(WORKERS) - set(swapped):
        yield f"no swap in worker {', '.join(sorted(missing))}"
    for name, count in (("lost", done.lost), ("duplicated", done.duplicated), ("replay_mismatch", done.mismatched)):
        if count:
            yield f"{name} is {count}, must be 0"
