"""What a long run says of itself where there is no terminal, by a clock that nobody waits for."""

from __future__ import annotations

import io
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specvlm.cli.progress import EVERY, Lines, Log, counting, progress, spoken, standing


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "1 s"), (59.4, "59 s"), (59.6, "1 min"), (3569.0, "59 min"), (3600.0, "1 h 0 min"), (9e4, "25 h 0 min")],
)
def test_spoken(seconds: float, said: str) -> None:
    assert spoken(seconds) == said


def test_standing() -> None:
    assert standing(0, 10, "runs", 0.0, 0) == "0 of 10 runs"
    assert standing(1, 10, "runs", 0.0, 0) == "1 of 10 runs"  # which tells nothing: models were loaded then
    assert standing(3, 10, "runs", 40.0, 2) == "3 of 10 runs, about 2 min left"
    assert standing(10, 10, "runs", 400.0, 9) == "10 of 10 runs"


class Watch:
    """A clock that goes when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def log(watch: Watch) -> Log:
    return Log(Lines("eval", "answers", watch))


def done(error: str | None = None) -> dict[str, str | None]:
    return {"error": error}


def test_a_line_at_the_beginning_every_so_often_and_at_the_end(
    log: Log, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.begin(8)
    for seconds, error in (
        (100, None),
        (10, None),
        (10, "broken"),
        (10, None),
        (29, None),
        (1, None),
        (1, None),
        (1, None),
    ):
        watch.now += seconds
        log.tell(done(error))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "eval: 0 of 8 answers",
        "eval: 1 of 8 answers",
        "eval: 4 of 8 answers, about 40 s left, 1 broken",
        "eval: 6 of 8 answers, about 24 s left, 1 broken",
        "eval: 8 of 8 answers, 1 broken",
    ]


def test_a_sample_that_ends_early_takes_its_other_arms_with_it(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    """Then fewer records come than were missing at the most."""
    log.begin(3)
    log.tell(done("gone"))
    assert capsys.readouterr().err == "eval: 0 of 3 answers\n"


def test_nothing_to_do_is_nothing_to_say(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.begin(0)
    assert capsys.readouterr().err == ""


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_no_two_lines_are_closer_than_that(pauses: list[float]) -> None:
    watch, out, before = Watch(), io.StringIO(), sys.stderr
    lines, times = Lines("bench", "runs", watch), []
    sys.stderr = out
    try:
        for number, pause in enumerate(pauses):
            watch.now += pause
            lines.count(number, len(pauses))
            if out.getvalue():
                times.append(watch.now)
                out.seek(0)
                out.truncate()
    finally:
        sys.stderr = before
    assert times[0] == 1000.0 + pauses[0]
    assert all(later - earlier >= EVERY for earlier, later in pairwise(times))


def test_where_there_is_no_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("sweep") as telling:
        telling.begin(2)
        assert telling.paused(lambda: "loaded") == "loaded"
    counting("plan", "measurements")(0, 2)
    assert capsys.readouterr().err == "sweep: 0 of 2 answers\nplan: 0 of 2 measurements\n"


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress("eval") as telling:
        telling.begin(3)
        telling.tell(done("broken"))
        assert telling.paused(lambda: "loaded") == "loaded"
    counting("plan", "measurements")(0, 2)
    assert "1/3" in screen.getvalue()
    assert "Answering, 1 broken" in screen.getvalue()
    assert "of 3" not in screen.getvalue()
    assert "measurements" not in screen.getvalue()
