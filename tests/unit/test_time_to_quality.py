"""The benchmark that reads from metrics.csv when a training was how good."""

import pytest

from benchmarks.time_to_quality import reached, table

ROWS = [
    {"step": step, "seconds": seconds, "validation_nll": nll}
    for step, seconds, nll in [(100, 10.0, 14.0), (200, 20.0, 12.0), (300, 40.0, 13.0)]
]


@pytest.mark.parametrize(
    ("mark", "seconds", "steps"),
    [(15.0, 10.0, 100.0), (13.0, 15.0, 150.0), (12.0, 20.0, 200.0), (11.0, None, None)],
)
def test_a_mark_is_reached_between_rows(mark, seconds, steps):
    assert reached(ROWS, mark, "seconds") == seconds
    assert reached(ROWS, mark, "step") == steps


def test_a_row_per_training():
    lines = table({"old": ROWS, "new": ROWS[:1]}, [13.0]).splitlines()
    assert lines[2:] == ["| old | 15 (150) | 12.000 |", "| new | – | 14.000 |"]
