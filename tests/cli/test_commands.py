"""What commands print, compared with what the library says."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

import specvlm
import video_zoo
from specvlm.answering.options import Options
from specvlm.comparing.arms import WAYS
from specvlm.comparing.record import Arm
from specvlm.comparing.words import WORDS
from specvlm.engine.stats import Stats
from specvlm.machine import machine
from specvlm.pipeline import SpecVLM
from specvlm.pruning import PRUNERS

SMALL = {"num_frames": 4, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def vlm(pair: Path) -> SpecVLM:
    return specvlm.load(pair / "target", pair / "draft", dtype="float32")


@pytest.fixture
def what(vlm: SpecVLM, film: Path) -> str:
    return vlm.generate(film, "what?", **SMALL).text


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each arm, by its words, from all tables that it stands in."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, *cells = re.split(" {2,}", line.strip())
        if name.partition(", ")[0] in {words.partition(", ")[0] for words in WORDS.values()} and cells:
            found.setdefault(name, []).extend(cells)
    return found


def same(text: str) -> list[str]:
    """What the table says of each arm's answer."""
    return [cells[0] for cells in rows(text).values()]


def test_the_answer_and_nothing_else(run: Callable, film: Path, small: list, what: str):
    result = run("generate", film, "what?", *small)
    assert result.exit_code == 0
    assert result.stdout == what + "\n"
    assert result.stderr == ""


def test_video_on_standard_input(run: Callable, film: Path, small: list, what: str):
    assert run("generate", "-", "what?", *small, stdin=film.read_bytes()).stdout == what + "\n"


def test_several_questions_about_a_video_that_is_decoded_once(
    run: Callable, film: Path, small: list, vlm: SpecVLM, monkeypatch: pytest.MonkeyPatch
):
    import specvlm.video as videos

    decoded = []
    for name in ("decode", "decode_before"):
        real = getattr(videos.loading, name)
        monkeypatch.setattr(videos.loading, name, lambda *a, real=real, **how: decoded.append(a) or real(*a, **how))
    run("generate", film, "what?", *small)
    assert len(decoded) == 2  # the first frame, to see whether there are any, and those for the answer
    result = run("generate", film, "what?", "who?", *small)
    assert len(decoded) == 2 + 2
    answers = [vlm.generate(film, question, **SMALL).text for question in ("what?", "who?")]
    assert result.stdout == f"> what?\n{answers[0]}\n\n> who?\n{answers[1]}\n"


def test_chat_remembers(run: Callable, film: Path, small: list, vlm: SpecVLM, what: str):
    result = run("generate", film, "what?", "who?", *small, "--chat")
    remembering = vlm.generate(film, "who?", **SMALL, history=(("what?", what),)).text
    assert remembering != vlm.generate(film, "who?", **SMALL).text
    assert result.stdout.endswith(f"> who?\n{remembering}\n")


def test_text_only(run: Callable, small: list, vlm: SpecVLM):
    result = run("generate", "--text-only", "what?", *small)
    assert result.stdout == vlm.generate(None, "what?", max_new_tokens=12).text + "\n"


def test_an_empty_system_prompt_is_given_on(run: Callable, film: Path, small: list, vlm: SpecVLM):
    def answered(*more: object) -> str:
        result = run("generate", film, "what happens?", *small, *more)
        assert result.exit_code == 0
        return result.stdout.rstrip("\n")

    right = vlm.autoregressive(str(film), "what happens?", num_frames=4, max_new_tokens=12, system="").text
    assert answered("--system", "") == right != answered()


def test_one_frame(run: Callable, small: list, tmp_path: Path, vlm: SpecVLM):
    path = video_zoo.write(tmp_path / "one.mp4", 1)
    assert run("generate", path, "what?", *small).stdout == vlm.generate(path, "what?", **SMALL).text + "\n"


def test_a_file_cut_short_is_answered_with_a_warning(run: Callable, small: list, tmp_path: Path):
    whole = video_zoo.write(tmp_path / "film.mp4", mux={"movflags": "faststart"}).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    result = run("generate", path, "what?", *small)
    assert result.exit_code == 0
    assert result.stdout.strip()
    assert result.stderr.startswith("warning: ")
    assert result.stderr.count("\n") == 1


def test_record_of_an_answer(run: Callable, film: Path, small: list, vlm: SpecVLM, what: str):
    result = run("generate", film, "what?", *small, "--json", "--seed", 5)
    [line] = result.stdout.splitlines()
    record = json.loads(line)
    [arm] = record["arms"]
    assert arm.keys() == Arm.__dataclass_fields__.keys()
    expected = vlm.generate(film, "what?", **SMALL, seed=5)
    assert (arm["arm"], arm["tokens"], arm["identical"]) == ("auto", len(expected.token_ids), None)
    assert (record["text"], record["finish_reason"], record["options"]["seed"]) == (what, expected.finish_reason, 5)
    assert record.keys() >= {"machine", "versions"}
    assert arm["phases"]["decode_video"] > 0
    assert arm["total_seconds"] >= sum(arm["phases"].values()) * 0.999
    assert result.stderr == what + "\n"


def test_the_record_names_the_arm_that_answered_so(run: Callable, film: Path, small: list):
    result = run("generate", film, "what?", *small, "--json", "--tree", "dynamic")
    assert json.loads(result.stdout)["arms"][0]["arm"] == "specvlm"


def test_a_temperature_alone_draws_and_0_is_greedy(run: Callable, film: Path, small: list, vlm: SpecVLM, what: str):
    drawn = vlm.autoregressive(film, "what?", **SMALL, do_sample=True, temperature=3.0, seed=5)
    greedy = vlm.autoregressive(film, "what?", **SMALL, do_sample=False)
    assert drawn.text != greedy.text
    for temperature, right in ((3.0, drawn), (0, greedy)):
        result = run("generate", film, "what?", *small, "--temperature", temperature, "--seed", 5)
        assert (result.exit_code, result.stdout) == (0, right.text + "\n")


def test_record_of_each_question(run: Callable, film: Path, small: list):
    result = run("generate", film, "what?", "who?", *small, "--json")
    assert [json.loads(line)["question"] for line in result.stdout.splitlines()] == ["what?", "who?"]


def test_a_target_alone_is_the_loop(run: Callable, film: Path, pair: Path, small: list, what: str):
    result = run("generate", film, "what?", "--target", pair / "target", *small[4:], "--json", "--threads", 1)
    record = json.loads(result.stdout)
    assert record["arms"][0]["arm"] == "loop"
    assert record["text"] == what


def test_stats_stay_off_standard_output(run: Callable, film: Path, small: list, what: str):
    result = run("generate", film, "what?", *small, "--stats")
    assert result.stdout == what + "\n"
    for text in ("prefill target", "mean acceptance length", "bonus token included", "accepted at depth 1"):
        assert text in " ".join(result.stderr.split())


def test_compare(run: Callable, film: Path, small: list):
    result = run("compare", film, "what?", *small, "--arms", "loop,specvlm", "--repeats", 2, "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert [arm["arm"] for arm in record["arms"]] == ["ar", "loop", "specvlm"]
    assert all(arm["identical"] and arm["spread"] for arm in record["arms"])
    assert "End to end starts" in " ".join(result.stderr.split())


def test_what_is_compared_by_default(run: Callable, film: Path, small: list):
    """That one prunes, and why: what plain speculation is without it."""
    record = json.loads(run("compare", film, "what?", *small, "--json").stdout)
    assert [(arm["arm"], arm["identical"]) for arm in record["arms"]] == [
        (name, True) for name in ("ar", "sd", "specvlm", "auto")
    ]


def test_compare_in_a_table(run: Callable, film: Path, small: list):
    result = run("compare", film, "what?", *small, "--arms", "sd")
    assert result.exit_code == 0, result.stderr
    assert same(result.stdout) == ["yes", "yes"]
    assert rows(result.stdout).keys() == {"stock generate", "plain speculation"}
    assert rows(result.stdout)["stock generate"][6] == "1.00"
    assert "bonus token included" in " ".join(result.stdout.split())
    assert result.stderr == ""


def test_compare_tells_what_stock_transformers_could_not_run(
    run: Callable, film: Path, small: list, monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments: object):
        raise ValueError("two vocabularies")

    monkeypatch.setitem(WAYS, "assisted", replace(WAYS["assisted"], answer=fail))
    result = run("compare", film, "what?", *small, "--arms", "assisted,loop")
    assert result.exit_code == 0, result.stderr
    assert same(result.stdout) == ["yes", "yes"]
    assert "HF assisted was left out" in result.stderr
    assert "ValueError: two vocabularies" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("dtype", "exit_code"), [("float32", 1), ("float64", 1), ("bfloat16", 0)])
def test_an_answer_that_differs(
    run: Callable, film: Path, small: list, monkeypatch: pytest.MonkeyPatch, dtype: str, exit_code: int
):
    real = specvlm.answering.oracle.generate_stock

    def lie(*arguments: object, **named: object):
        tokens, reason = real(*arguments, **named)
        return (tokens[0] + 1, *tokens[1:]), reason

    monkeypatch.setattr("specvlm.answering.oracle.generate_stock", lie)
    result = run("compare", film, "what?", *small, "--dtype", dtype, "--arms", "loop")
    assert result.exit_code == exit_code
    assert "our loop, no draft differs from stock generate from token 0 on" in result.stderr
    assert same(result.stdout) == ["yes", "no, from 0"]


def test_pruners(run: Callable):
    rows = {row["name"]: row for row in json.loads(run("pruners", "--json").stdout)}
    assert rows.keys() == PRUNERS.keys()
    assert rows["verifier_guided"]["options"] == {"top_p": 0.4, "fraction": None}
    assert rows["verifier_guided"]["needs"] == ["scores"]
    table = run("pruners").stdout
    assert all(name in table for name in PRUNERS)


@pytest.mark.parametrize(("option", "phases"), [("--stats", True), ("--json", True), ("--text-only", False)])
def test_phases_are_asked_for_where_they_are_shown(
    run: Callable, film: Path, small: list, option: str, phases: bool, monkeypatch: pytest.MonkeyPatch
):
    """On a GPU only, where they take time: what an answer there would have done is noted."""
    asked: list[bool] = []

    def begun(devices: tuple[torch.device, ...]) -> Stats:
        elsewhere = Stats((torch.device("cuda:0"),), wait=lambda devices: None)
        with elsewhere.phase("draft"):
            pass
        asked.append("draft" in elsewhere.phases)
        return Stats(devices)

    monkeypatch.setattr("specvlm.answering.request.Stats", begun)
    given = [] if option == "--text-only" else [film]
    result = run("generate", *given, "what?", *small, option)
    assert result.exit_code == 0, result.output
    assert asked == [phases]


def test_demo(run: Callable, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("specvlm.pocket.path", lambda family, role: pair / role)
    monkeypatch.setattr("specvlm.pocket.demo_video", lambda path, number, lit: video_zoo.write(path, 12))
    monkeypatch.setattr("specvlm.answering.options.Options", partial(Options, max_new_tokens=12))
    result = run("demo", "--repeats", 1, "--device-map", "cpu", "--save", tmp_path / "film.mp4")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("> Describe the video in detail.\n")
    assert same(result.stdout) == ["yes"] * 4
    assert len(specvlm.video.load(tmp_path / "film.mp4").frames) == 12
    assert f"On this {machine()['cpu']}, SpecVLM gave the same" in " ".join(result.stdout.split())


def test_as_a_program(film: Path, small: list, what: str):
    """Warnings and progress bars of transformers never reach the terminal."""
    process = subprocess.run(
        [sys.executable, "-m", "specvlm", "generate", film, "what?", *map(str, small)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, what + "\n", "")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(12):
        Image.fromarray(video_zoo.picture(index)).save(folder / f"{index}.png")
    return folder


def test_pictures_with_the_rate_that_they_were_taken_at(run: Callable, pictures: Path, pair: Path, vlm: SpecVLM):
    models = ("--target", pair / "target", "--draft", pair / "draft", "--dtype", "float32", "--max-new-tokens", 12)
    clip = vlm.load_video(pictures, fps=1.0, source_fps=4.0)
    assert video_zoo.indices_of(clip.frames) == [0, 4, 8]
    assert clip.timestamps.tolist() == [0, 1, 2]
    said = vlm.generate(clip, "what?", max_new_tokens=12).text
    assert run("generate", pictures, "what?", *models, "--fps", 1, "--source-fps", 4).stdout == said + "\n"
    assert vlm.generate(pictures, "what?", fps=1.0, source_fps=4.0, max_new_tokens=12).text == said
    frames = [path.read_bytes() for path in sorted(pictures.iterdir(), key=lambda path: int(path.stem))]
    assert vlm.generate(frames, "what?", fps=1.0, source_fps=4.0, max_new_tokens=12).text == said
    assert vlm.watch(pictures, fps=1.0, source_fps=4.0).ask("what?", max_new_tokens=12).text == said
    for command in ("compare", "explain"):
        out = ("--out", pictures.parent / "page.html") if command == "explain" else ()
        assert run(command, pictures, "what?", *models, *out, "--fps", 1, "--source-fps", 4).exit_code == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--fps", 1), "give source_fps too"),
        (("--source-fps", 0), "source_fps must be a number above 0"),
        (("--source-fps", -1), "source_fps must be"),
        (("--source-fps", "inf"), "source_fps must be"),
        (("--source-fps", "nan"), "source_fps must be"),
        (("--video-backend", "torchcodec"), "backend='torchcodec' needs torchcodec"),
    ],
)
def test_what_no_source_can_be_read_by_is_refused_before_the_models_are_loaded(
    run: Callable, pictures: Path, given: tuple, words: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("specvlm.video.backends.torchcodec.decoder_class", lambda: None)
    result = run("generate", pictures, "what?", "--target", "no such model", *given)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_rate_for_a_file_that_has_its_own_times_is_refused(run: Callable, film: Path):
    result = run("generate", film, "what?", "--target", "no such model", "--source-fps", 4)
    assert result.exit_code == 2
    assert "film.mp4 has its own times" in result.stderr


def test_a_video_by_its_address(run: Callable, film: Path, small: list, what: str):
    assert run("generate", film.as_uri(), "what?", *small).stdout == what + "\n"
    data = "data:video/mp4;base64," + base64.b64encode(film.read_bytes()).decode()
    assert run("generate", data, "what?", *small).stdout == what + "\n"
    result = run("generate", "https://someone:secret@example.org/film.mp4", "what?", *small)
    assert result.exit_code == 2
    assert "https://" in result.stderr
    assert "secret" not in result.stderr


def test_a_prompt_longer_than_the_models_positions_is_told_of_in_one_line(run, pair, film, small, tmp_path):
    target = shutil.copytree(pair / "target", tmp_path / "target")
    config = json.loads((target / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 9
    (target / "config.json").write_text(json.dumps(config))
    whole = run("generate", film, "what?", "how?", *small)
    result = run("generate", film, "what?", "how?", *small, "--target", target)
    assert (result.exit_code, result.stdout) == (0, whole.stdout)
    [line] = result.stderr.splitlines()
    assert line.startswith("warning: the prompt takes ")
    assert f"positions, and {target} was made for 9" in line
