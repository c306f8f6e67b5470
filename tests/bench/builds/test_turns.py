"""Turns: both builds are asked as often, none first all the time, and what they say has to be the same."""

from __future__ import annotations

import pytest

from specvlm.bench.builds import turns
from specvlm.bench.builds.turns import OWN, Compared, Turns, compared, main
from specvlm.pocket import demo_video


def test_builds_take_turns_and_the_first_turn_only_warms_up():
    asked = []

    def ask(build: int, case: str) -> dict:
        asked.append(build)
        return {"seconds": 100.0 if len(asked) <= 2 else 2.0 + build, "said": case}

    assert Turns(ask).compare("a case", 3) == Compared("a case", 2.0, 3.0, same=True)
    assert asked == [1, 0, 0, 1, 1, 0, 0, 1]


def test_a_build_that_says_something_else_is_noticed():
    assert not Turns(lambda build, case: {"seconds": 1.0, "said": build}).compare("a case", 1).same


def test_the_most_memory_of_any_turn_is_told_where_it_is_measured():
    taken = iter([9, 9, 5, 7, 4, 8])

    def ask(build: int, case: str) -> dict:
        return {"seconds": 1.0, "said": case, "bytes": next(taken)}

    assert Turns(ask).compare("a case", 2).memory == (8, 7)


@pytest.mark.slow
def test_first_tokens_of_this_build_are_those_of_this_build(tmp_path, monkeypatch):
    demo_video(tmp_path / "film.mp4")
    monkeypatch.setenv("SPECVLM_FILMS", str(tmp_path))
    [found] = compared("first_token", OWN, OWN, 1)
    assert (found.case, found.same) == ("film.mp4", True)
    assert found.memory is not None
    assert min(found.memory) > 100 << 20


@pytest.mark.slow
def test_rounds_of_this_build_are_those_of_this_build():
    """Every case of the script, in two processes; it says so to the digit that it plays the very same rounds."""
    found = list(compared("host_time", OWN, OWN, 1))
    assert [each.case for each in found][:2] == ["DynamicTree()", "DynamicTree(6, 4, 25)"]
    assert all(each.same and each.before > 0 and each.after > 0 for each in found)


def test_a_build_that_a_script_cant_run_on_is_an_error(tmp_path):
    (tmp_path / "specvlm.py").write_text("raise SystemExit(3)")
    with pytest.raises(ValueError, match=r"host_time.*ended with 3"):
        list(compared("host_time", tmp_path, OWN, 1))


def test_a_line_for_each_case(monkeypatch, capsys):
    lines = [Compared("a", 3e-4, 1e-4, same=True), Compared("b", 1e-4, 1e-4, same=False, memory=(2 << 20, 1 << 20))]
    monkeypatch.setattr(turns, "compared", lambda *asked: lines)
    main(["host_time", "elsewhere/src"])
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["a", "300.0", "us", "100.0", "us", "3.00"]
    assert second.endswith("1.00   2 MiB, 1 MiB   NOT THE SAME")
