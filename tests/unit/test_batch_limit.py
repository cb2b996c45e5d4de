"""How many messages are taken at once."""

from stream_detector.worker.judge import CALM, FIRST, BatchLimit


def test_a_lowered_limit_grows_back_when_batches_go_well():
    """Trouble halves the limit; calm doubles it up to where it was, and idle batches are no proof of calm."""
    limit = BatchLimit(1_000)
    limit.lower(1_000)
    assert limit.messages == 500
    for _ in range(10 * CALM):
        limit.passed(3, 3)
    assert limit.messages == 500
    for _ in range(2 * CALM):
        limit.passed(500, 500)
    assert limit.messages == 1_000


def test_trouble_that_comes_back_is_tried_less_often():
    """Each time it fails again, more calm is asked for before the next try."""
    limit, waits = BatchLimit(1_000), []
    for _ in range(3):
        limit.lower(limit.messages)
        floor, waited = limit.messages, 0
        while limit.messages == floor:
            limit.passed(floor, floor)
            waited += 1
        waits.append(waited)
    assert waits == [2 * CALM, 4 * CALM, 8 * CALM]


def test_messages_of_many_records_are_taken_by_their_records():
    """It begins with the most that a message may hold, then follows what messages do hold, slowly when they get thinner."""
    limit = BatchLimit(8_192, dense=65_536)
    assert limit.messages == 1
    for _ in range(20):
        limit.passed(1, 100)
    assert limit.messages == 81
    limit.passed(81, 81 * 1_000)
    assert limit.messages == 8


def test_brief_batches_grow():
    """While turns are brief a batch holds twice as many records, up to the limit; long ones leave it as it is."""
    limit, seen = BatchLimit(3 * FIRST), []
    for seconds in (0.5, 0.05, 0.5, 0.05, 0.05):
        limit.lasted(seconds)
        seen.append(limit.messages)
    assert seen == [FIRST, 2 * FIRST, 2 * FIRST, 3 * FIRST, 3 * FIRST]


def test_after_trouble_brief_batches_do_not_grow():
    """A limit that was lowered grows by calm alone, and no further than where it was."""
    limit = BatchLimit(4 * FIRST)
    limit.lower(FIRST - 2)
    limit.lasted(0.01)
    assert limit.messages == FIRST // 2 - 1
    for _ in range(10 * CALM):
        limit.passed(limit.messages, limit.messages)
    assert limit.messages == FIRST


def test_what_held_too_much_is_not_tried_again_before_it_went_well_for_a_while():
    """Fewer messages are taken, and what is only scored, such as thin ones before them, does not change that."""
    limit = BatchLimit(FIRST, dense=100)
    for _ in range(10):
        limit.passed(10, 10)
    assert limit.messages == FIRST
    limit.crowded(600, 50)
    for _ in range(10 * CALM):
        limit.passed(1_000, 1_000, judged=False)
    assert limit.messages == 50
    for _ in range(CALM):
        limit.passed(50, 50)
    assert limit.messages == 100
    limit.crowded(100, 99)
    assert limit.messages == 50
    limit.crowded(2, 2)
    limit.crowded(1, 1)
    assert limit.messages == 1
