import io

import pytest

from paper_tables.engine.progress import STEADY, Bar, Lines, Progress, TimeLeft


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_time_left_is_the_estimates_until_something_was_computed():
    clock = Clock()
    left = TimeLeft(100, clock)
    assert left.seconds() == 100
    left.begin(40)
    clock.now = 10
    assert left.seconds() == pytest.approx(90)
    assert left.share() == pytest.approx(0.1)


def test_the_speed_so_far_corrects_it():
    clock = Clock()
    left = TimeLeft(10 * STEADY, clock)
    left.begin(STEADY)
    clock.now = 5 * STEADY
    left.end(computed=True)
    assert left.seconds() == pytest.approx((5 + 1) / 2 * 9 * STEADY)
    assert left.share() == pytest.approx(0.1)


def test_what_was_found_says_nothing_about_the_speed():
    clock = Clock()
    left = TimeLeft(100, clock)
    left.begin(60)
    clock.now = 0.1
    left.end(computed=False)
    assert left.seconds() == pytest.approx(40)


def test_a_step_that_takes_longer_than_its_estimate_leaves_the_others():
    clock = Clock()
    left = TimeLeft(100, clock)
    left.begin(10)
    clock.now = 1000
    assert left.seconds() == pytest.approx(90)
    assert left.share() == pytest.approx(0.1)


def test_steps_that_were_not_planned_do_no_harm():
    clock = Clock()
    left = TimeLeft(clock=clock)
    left.begin(10)
    clock.now = 4
    assert (left.seconds(), left.share()) == (6, 0)
    left.end(computed=True)
    assert (left.seconds(), left.share()) == (0, 0)


def steps(progress):
    progress.plan(70)
    with progress.step("cell 1/2 one", 60) as step:
        step.outcome = "done"
    with progress.step("cell 2/2 two", 0) as step:
        step.outcome = "finished before"
    with pytest.raises(ValueError, match="no number"), progress.step("a step", 10):
        raise ValueError("no number\nmore of it")
    progress.close()


def test_lines_are_one_a_step():
    shown = []
    steps(Lines(shown.append))
    assert "".join(shown).splitlines() == [
        "cell 1/2 one (about 60 s) ... done",
        "cell 2/2 two finished before",
        "a step (about 10 s) ... failed: no number",
    ]


def test_a_bar_says_the_name_and_the_time_left_and_leaves_nothing_but_failures():
    terminal = io.StringIO()
    steps(Bar(terminal, terminal.write))
    frames = [frame.rstrip() for frame in terminal.getvalue().split("\r")]
    assert "|          | 0 %, about 01:10 left: cell 1/2 one" in frames
    # 60 estimated seconds took none, so the 10 that are left are thought to take less
    assert "|########5 | 86 %, about 00:04 left: cell 2/2 two" in frames
    kept = [frame for frame in frames if frame and not frame.startswith("|")]
    assert kept == ["a step failed: no number"]
    assert frames[-1] == ""


def test_a_bar_can_be_closed_twice_and_opened_again():
    terminal = io.StringIO()
    bar = Bar(terminal, terminal.write)
    bar.close()
    for _ in range(2):
        steps(bar)
        bar.close()


def test_without_a_terminal_nothing_is_needed():
    steps(Progress())
