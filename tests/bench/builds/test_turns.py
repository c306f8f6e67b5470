"""Turns: both builds are asked as often, none first all the time, and what they say has to be the same."""

from __future__ import annotations

import pytest

from specvlm.bench.builds import turns
from specvlm.bench.builds.turns import OWN, Compared, Turns, compared, main


def test_builds_take_turns_and_the_first_turn_only_warms_up():
    asked = []

    def ask(build: int, case: str) -> dict:
        asked.append(build)
        return {"seconds": 100.0 if len(asked) <= 2 else 2.0 + build, "said": case}

    assert Turns(ask).compare("a case", 3) == Compared("a case", 2.0, 3.0, same=True)
    assert asked == [1, 0, 0, 1, 1, 0, 0, 1]


def test_a_build_that_says_something_else_is_noticed():
    assert not Turns(lambda build, case: {"seconds": 1.0, "said": build}).compare("a case", 1).same


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
    lines = [Compared("a", 3e-4, 1e-4, same=True), Compared("b", 1e-4, 1e-4, same=False)]
    monkeypatch.setattr(turns, "compared", lambda *asked: lines)
    main(["host_time", "elsewhere/src"])
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["a", "300.0", "us", "100.0", "us", "3.00"]
    assert second.endswith("NOT THE SAME")
