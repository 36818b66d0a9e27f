import io

import pytest

from ddpm_ref.training.progress import Progress, console


class Terminal(io.StringIO):
    def isatty(self):
        return True


def progress(step, seconds, task="train", loss=0.5):
    return Progress(task, step, 10, seconds, 10.0 - seconds, loss)


def test_plain_lines_come_now_and_then_and_at_the_end_of_each_task():
    stream = io.StringIO()
    with console(stream) as report:
        for step in range(1, 11):
            report(progress(step, float(step)))
        report(progress(1, 0.5, task="sample", loss=None))
    assert stream.getvalue().splitlines() == [
        "train: step 5 of 10, loss 0.5000, 1.0 steps/s, 5 s left",
        "train: step 10 of 10, loss 0.5000, 1.0 steps/s, 0 s left",
        "sample: step 1 of 10, 2.0 steps/s, 10 s left",
    ]


def test_nothing_reported_prints_nothing():
    stream = io.StringIO()
    with console(stream):
        pass
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    with console(stream) as report:
        report(progress(3, 1.0))
        report(progress(10, 10.0))
    assert "train: step 10 of 10, loss 0.5000" in stream.getvalue()


@pytest.mark.parametrize(
    ("made", "fraction"),
    [
        (Progress("train", 3, None, 1.0, 3.0), 0.25),
        (Progress("train", 3, 12, 1.0, None), 0.25),
        (Progress("train", 3, None, 1.0, None), None),
    ],
)
def test_the_fraction_is_by_time_then_by_steps(made, fraction):
    assert made.fraction == fraction
