"""Two models on the same records: what is counted adds up."""

import pytest

from stream_detector.records.comparison import EXAMPLES, Comparison


def test_alerts_are_told_apart():
    """Alerts of both, of the candidate alone and of the champion alone; agreement is their overlap."""
    found = Comparison.of("b", "a", 100, ["x", "y", "z"], ["x", "w"])
    assert (found.both, found.alerts_added, found.alerts_lost, found.agreement) == (1, 2, 1, 0.25)
    assert (found.added, found.lost) == (("y", "z"), ("w",))
    assert Comparison("b", "a").agreement == 1.0


def test_parts_add_up_to_the_whole():
    """Comparisons of parts of a stream, written and read back, give that of all of it; examples stay few."""
    new, old = [f"r{at}" for at in range(0, 300, 3)], [f"r{at}" for at in range(0, 300, 5)]
    parts = [
        Comparison.of("b", "a", 100, *([i for i in ids if start <= int(i[1:]) < start + 100] for ids in (new, old)))
        for start in (0, 100, 200)
    ]
    total = Comparison("b", "a")
    for part in parts:
        total = total.plus(Comparison.from_json(part.to_json()))
    assert total == Comparison.of("b", "a", 300, new, old)
    assert len(total.added) == EXAMPLES


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"candidate": "b", "champion": "a", "records": "many"}'])
def test_other_values_are_refused(value):
    """What is no comparison is a ValueError."""
    with pytest.raises(ValueError, match="not a comparison"):
        Comparison.from_json(value)
