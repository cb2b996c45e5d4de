"""A record is blamed for a failure only where it fails by itself and the model works otherwise."""

from dataclasses import replace

import orjson
import pytest
from messages import Stored
from small_models import correlated, numeric
from workload import contextual_model, entity_telemetry

from stream_detector.config import Config
from stream_detector.errors import ModelError
from stream_detector.features import Encoded
from stream_detector.records import Arrivals
from stream_detector.scoring.threshold import RollingThreshold
from stream_detector.worker.judge import Judge
from stream_detector.worker.model_swap import Candidate
from stream_detector.worker.partitions.assignment import Assignment
from stream_detector.worker.partitions.restore import Past, Restored, rebuild_threshold
from stream_detector.worker.partitions.starts import Start
from stream_detector.worker.shadow import Shadow

POISON = 345.0  # far from any other record
BUG = ArithmeticError("a device's or a model's bug")


class Faulty:
    """A real model whose scoring fails as long as there are `failures`."""

    def __init__(self, failures, golden_fails=False):
        self._model, self._failures, self._golden_fails = numeric(), failures, golden_fails

    def __getattr__(self, name):
        return getattr(self._model, name)

    def score(self, X):
        if self._failures:
            self._failures -= 1
            raise BUG
        return self._model.score(X)

    def verify(self):
        if self._golden_fails:
            raise BUG
        self._model.verify()


class Allergic:
    """A real model that fails on one record, where it is scored or where it is explained."""

    def __init__(self, stage):
        self._model, self._stage = numeric(), stage

    def __getattr__(self, name):
        return getattr(self._model, name)

    def score(self, X):
        return self._checked("score", X)

    def explain(self, X):
        return self._checked("explain", X)

    def _checked(self, stage, X):
        matrix = X.matrix if isinstance(X, Encoded) else X
        if stage == self._stage and (matrix[:, 0] == POISON).any():
            raise BUG
        return getattr(self._model, stage)(X)


def poisoned(count, at):
    messages = log(count)
    return [
        *messages[:at],
        Stored(at, orjson.dumps({"features": {f"x{column}": POISON for column in range(5)}})),
        *messages[at + 1 :],
    ]


def log(count):
    rows = [
        {f"x{column}": float(value) for column, value in enumerate(row)} for row in correlated(count, seed=5)[:, :5]
    ]
    return [Stored(at, orjson.dumps({"features": row})) for at, row in enumerate(rows)]


class Frail:
    """The detector of a model's contexts on a device that takes few records at once."""

    def __init__(self, view, most):
        self._view, self._most = view, most

    def __getattr__(self, name):
        return getattr(self._view, name)

    def score_alone(self, X):
        if len(X) > self._most:
            raise BUG
        return self._view.score_alone(X)


def judged(judge, messages):
    return judge.judge(messages, {("telemetry", 0): RollingThreshold(judge.limits)})


def test_a_broken_device_is_no_fault_of_the_records():
    """Where the golden batch fails, too, the run ends and names the cause; no record becomes a dead letter for it."""
    judge = Judge(Faulty(failures=10**9, golden_fails=True), Config())
    with pytest.raises(ModelError, match="device's or a model's bug"):
        judged(judge, log(4))
    with pytest.raises(ModelError, match="no record is at fault"):
        judge.scores(log(4))


def test_a_device_that_takes_few_contexts_at_once_has_each_record_teach_once():
    """Scores and context are those of a device without trouble; where not even one is taken, the model is to blame."""
    messages = [Stored(at, value) for at, value in enumerate(entity_telemetry(400))]
    sound = contextual_model()
    found = []
    for view in (sound.view, Frail(sound.view, 16)):
        context = sound.context.begin()
        scores = Judge(replace(sound, view=view), Config()).scores(messages, context)
        found.append((scores, context.figures))
    assert found[0] == found[1]
    with pytest.raises(ModelError, match="detector of contexts"):
        Judge(replace(sound, view=Frail(sound.view, 0)), Config()).scores(messages, sound.context.begin())


@pytest.mark.parametrize("failures", [1, 2, 3, 4])  # of the batch, of all, of a half, of one alone
def test_a_failure_that_passes_costs_no_record(failures):
    """The batch is taken again, and every record judged."""
    judge = Judge(Faulty(failures), Config())
    messages = log(4)
    assert judged(judge, messages) is None
    outcome = judged(judge, messages)
    assert (outcome.records, outcome.dead_letters) == (4, ())


def test_what_fails_alone_twice_is_set_aside():
    """A record that passes all that can be tried, and still fails behind it, is a dead letter; the next one is judged."""
    judge = Judge(Faulty(failures=0), Config())
    one, other, sound = log(3)
    for each in (one, other, one, other):
        assert not judged(judge, [each]).dead_letters
        judge.isolate([each], BUG)
    outcome = judged(judge, [one, other, sound])
    assert [letter.offset for letter in outcome.dead_letters] == [0, 1]
    assert outcome.records == 3
    with pytest.raises(ArithmeticError):
        judge.isolate([one], BUG)  # its dead letter fails as well: nothing is left to try


@pytest.mark.parametrize("stage", ["score", "explain"])
def test_a_threshold_rebuilt_around_a_poisonous_record_is_the_running_one(stage):
    """Whether or not the record has a score, a restart finds the window that the worker had."""
    messages = poisoned(60, at=30)
    judge = Judge(Allergic(stage), Config())
    assert judged(judge, messages) is None
    running = RollingThreshold(judge.limits)
    outcome = judge.judge(messages, {("telemetry", 0): running})
    assert [letter.offset for letter in outcome.dead_letters] == [30]
    rebuilt = rebuild_threshold(judge.limits, [messages[40:], messages[:40]], Judge(Allergic(stage), Config()).scores)
    assert (rebuilt.seen, rebuilt.current()) == (running.seen, running.current())
    assert running.seen == (59 if stage == "score" else 60)


@pytest.mark.parametrize("stage", ["score", "explain"])
def test_a_record_that_a_candidate_fails_on_does_not_end_its_shadow(stage):
    """The batch in which it was found is not compared; the next ones are, by thresholds that know of it."""
    place, champion, candidate = (
        ("telemetry", 0),
        Judge(numeric(), Config()),
        Candidate(Judge(Allergic(stage), Config()), {}),
    )
    assignment = Assignment(champion, window=100)
    assignment.add([place])
    start = Start(0, committed=True, low=0, high=60)
    assignment.restore(place, start, Restored(RollingThreshold(champion.limits), Past(whole=True)))
    shadow = Shadow(Config(), assignment)
    shadow.change(candidate)
    messages = poisoned(60, at=30)
    for start in (0, 20, 40):
        part = Arrivals.of(messages[start : start + 20])
        shadow.judge(part, champion.judge(part, assignment.thresholds), "champion")
        assignment.remember(part)
    assert shadow.version == candidate.judge.model.version
    assert shadow._open.records == 40
    assert assignment[place].shadow.threshold.seen == (59 if stage == "score" else 60)
