"""The clock of an entity, and how often its records come; compiled. Times are nanoseconds."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from stream_detector.context.spec import NO_TIME, RECENT
from stream_detector.context.table import CLOCK, LATE, LATE_COUNT, RECORDS, SHORT_GAP, USUAL_GAP
from stream_detector.scoring.compiled.arithmetic import inlined

__all__ = ["read_gap", "step", "teach_gap"]

AGREE = 3  # late records that agree set an entity's clock back


@inlined
def step(time, times, rates):
    """How far the record moves its entity's clock, which it does; -1 when it is late and teaches nothing."""
    if time == NO_TIME:
        return 0
    if times[CLOCK] == NO_TIME:
        times[CLOCK] = time
        return 0
    if time < times[CLOCK] - rates.grace:
        agrees = times[LATE_COUNT] > 0 and abs(time - times[LATE]) <= rates.cap
        times[LATE_COUNT] = times[LATE_COUNT] + 1 if agrees else 1
        times[LATE] = time
        if times[LATE_COUNT] < AGREE:
            return -1
        times[CLOCK] = time
    times[LATE_COUNT] = 0
    moved = min(max(time - times[CLOCK], 0), rates.cap)
    times[CLOCK] += moved
    return moved


@inlined
def teach_gap(times, gaps, moved, rates):
    """Has the time since the last record teach what is usual."""
    records = times[RECORDS]
    if records > 0 and times[CLOCK] != NO_TIME:
        gain = max(1.0 / records, moved / (rates.memory + moved))
        gaps[USUAL_GAP] += gain * (moved - gaps[USUAL_GAP])
        gaps[SHORT_GAP] += max(1.0 / records, 1.0 / RECENT) * (moved - gaps[SHORT_GAP])


@inlined
def read_gap(time, times, usual_gaps, rates, gaps):
    """The gap before a record, and the rate lately, against what is usual: -1 to 1."""
    if min(time, times[CLOCK]) == NO_TIME or times[RECORDS] < 2:
        return
    gap = float(min(max(time - times[CLOCK], 0), rates.cap))
    usual, short = usual_gaps[USUAL_GAP], usual_gaps[SHORT_GAP]
    if gap + usual > 0:
        gaps[0] = (gap - usual) / (gap + usual)
    short += (gap - short) / RECENT
    if short + usual > 0:
        gaps[1] = (usual - short) / (short + usual)
