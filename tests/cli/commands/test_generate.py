"""specvlm generate, where a feature cache knows the video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import video_zoo
from specvlm.video import loading


def test_a_question_next_day_decodes_nothing(
    run: Callable, small: list, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the one frame by which it is seen, before models are loaded, that a video is one."""
    plain = run("generate", film, "what happens?", *small)
    cached = [*small, "--feature-cache", tmp_path / "cache"]
    first = run("generate", film, "what happens?", *cached)

    def decoding(*_: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(loading, "decode", decoding)
    second = run("generate", film, "what happens?", *cached)
    third = run("generate", "-", "what happens?", *cached, stdin=film.read_bytes())
    assert plain.exit_code == 0, plain.output
    assert plain.stdout == first.stdout == second.stdout == third.stdout
    other = run("generate", film, "a ball?", *cached)
    assert other.exit_code == 0, other.output


def test_damage_is_told_of_each_time(run: Callable, small: list, tmp_path: Path) -> None:
    path = video_zoo.write(tmp_path / "film.mkv", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    told = [run("generate", path, "what happens?", *small)]
    told += [run("generate", path, "what happens?", *small, "--feature-cache", tmp_path / "cache") for _ in range(2)]
    warned = [[line for line in result.stderr.splitlines() if "film.mkv" in line] for result in told]
    assert len(warned[0]) == 1
    assert warned[0] == warned[1] == warned[2]
    assert told[0].stdout == told[1].stdout == told[2].stdout


def test_a_size_without_a_folder_is_refused(run: Callable, small: list, film: Path) -> None:
    result = run("generate", film, "what happens?", *small, "--feature-cache-gb", 2)
    assert result.exit_code == 2
    assert "--feature-cache-gb is the size of a folder" in result.stderr


def test_a_folder_that_is_none_is_refused_before_models_are_loaded(run: Callable, film: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("generate", film, "what?", "--target", tmp_path / "none", "--feature-cache", tmp_path / "file")
    assert result.exit_code == 2
    assert "file can't hold a feature cache: File exists" in result.stderr
