"""The plugin in the real lmms-eval, on a task made here: `make lmms-eval`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import specvlm
from specvlm.answering.options import Options
from specvlm.errors import OptionError
from specvlm.evals.experiment import Experiment
from specvlm.evals.runner import local
from specvlm.evals.settings import Setting
from specvlm.pocket import HELD_OUT, demo_video
from specvlm.pocket.language import describe
from specvlm.pocket.world import make_scene

pytestmark = [
    pytest.mark.lmms_eval,
    pytest.mark.filterwarnings("ignore"),  # those of lmms-eval are not ours to mend
]

NUM_TOKENS = 48
TASK = """\
task: pocket_films
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: OUTPUT_TYPE
doc_to_visual: !function films.doc_to_visual
doc_to_text: question
doc_to_target: answer
doc_to_choice: ["red", "green"]
generation_kwargs: {max_new_tokens: 48, temperature: 0, do_sample: false, num_beams: 1, image_aspect_ratio: pad}
process_results: !function films.process_results
metric_list: [{metric: chrf, aggregation: mean, higher_is_better: true}]
"""
FILMS = """
import sacrebleu
FOLDER = "DATA"
def doc_to_visual(doc):
    return [f"{FOLDER}/{doc['video']}"]
def process_results(doc, results):
    return {"chrf": sacrebleu.sentence_chrf(results[0], [doc["answer"]], word_order=2).score}
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films with a question each, as our own task `folder` has them."""
    folder = tmp_path_factory.mktemp("films")
    rows = []
    for number in range(2):
        demo_video(folder / f"{number}.mp4", number)
        answer = describe(make_scene(HELD_OUT[number]))
        rows.append({"video": f"{number}.mp4", "question": "Describe the video in detail.", "answer": answer})
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def lmms_eval(folder: Path, films: Path, output_type: str = "generate_until") -> subprocess.CompletedProcess:
    """lmms-eval on a task of its own with these films; what it writes goes to `folder`/out."""
    task = TASK.replace("DATA", str(films / "questions.jsonl")).replace("OUTPUT_TYPE", output_type)
    (folder / "task").mkdir()
    (folder / "task" / "pocket_films.yaml").write_text(task)
    (folder / "task" / "films.py").write_text(FILMS.replace("DATA", str(films)))
    command = [sys.executable, "-m", "lmms_eval", "--model", "specvlm", "--tasks", "pocket_films"]
    command += ["--model_args", "target=pocket,dtype=float32,pruning_ratio=0.8,tree=paper", "--batch_size", "1"]
    command += ["--include_path", folder / "task", "--output_path", folder / "out", "--log_samples"]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=folder)


def test_it_scores_what_our_own_runner_scores(films: Path, tmp_path: Path) -> None:
    told = lmms_eval(tmp_path, films)
    assert told.returncode == 0, told.stderr[-4000:]
    [results] = (tmp_path / "out").rglob("*_results.json")
    theirs = json.loads(results.read_text())
    [samples] = (tmp_path / "out").rglob("*_samples_*.jsonl")
    answers = [json.loads(line) for line in samples.read_text().splitlines()]

    options = Options(max_new_tokens=NUM_TOKENS, pruning_ratio=0.8, tree="paper")
    experiment = Experiment(
        task="folder", task_options={"data": str(films)}, settings=(Setting(options, ("ar", "specvlm")),)
    )
    run = experiment.carry_out(tmp_path / "ours", local(partial(specvlm.load, "pocket", dtype="float32")))
    ours = [record for record in run.records if record["arm"] == "specvlm"]
    assert [record["identical"] for record in ours] == [True, True]
    assert sum(record["num_accepted"] for record in ours) > 0
    texts = [answer["filtered_resps"] for answer in sorted(answers, key=lambda answer: answer["doc_id"])]
    assert texts == [record["text"] for record in ours]
    points, possible = np.sum([record["scores"]["chrF++"] for record in ours], axis=0)
    score = theirs["results"]["pocket_films"]["chrf,none"]
    assert score == pytest.approx(100 * points / possible)
    assert 0 < score < 100


def test_scoring_of_given_answers_is_refused(films: Path, tmp_path: Path) -> None:
    told = lmms_eval(tmp_path, films, "multiple_choice")
    assert "specvlm only generates" in told.stdout + told.stderr
    assert not list((tmp_path / "out").rglob("*_results.json"))


@pytest.fixture
def plugin() -> ModuleType:
    from specvlm.integrations import lmms_eval

    return lmms_eval


class TestOptions:
    BASE = Options(pruning_ratio=0.5, max_new_tokens=7)

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({}, {"do_sample": False}),
            ({"temperature": 0, "top_p": 0, "do_sample": True}, {"do_sample": False}),
            ({"temperature": 0.7, "do_sample": False}, {"do_sample": False}),
            ({"temperature": 0.7, "top_p": 0.9}, {"do_sample": True, "temperature": 0.7, "top_p": 0.9}),
            ({"do_sample": True, "top_k": 5}, {"do_sample": True, "top_k": 5}),
            ({"max_new_tokens": 9, "num_beams": 1, "image_aspect_ratio": "pad"}, {"max_new_tokens": 9}),
            ({"until": "."}, {"stop": (".",)}),
            ({"until": ["\n\n", ".", "Q:"]}, {"stop": (".", "Q:")}),
            ({"max_new_tokens": None, "temperature": None}, {}),
        ],
    )
    def test_are_what_the_task_asks_for(self, plugin: ModuleType, asked: dict, expected: dict) -> None:
        assert plugin.options_for(asked, self.BASE) == Options.of(self.BASE, {"do_sample": False} | expected)

    def test_beams_are_refused(self, plugin: ModuleType) -> None:
        with pytest.raises(OptionError, match="num_beams must be 1, not 4"):
            plugin.options_for({"num_beams": 4}, self.BASE)

    @pytest.mark.parametrize("arguments", [{"batch_size": 8}, {"batch_size": "auto"}, {"pruning": 0.9}])
    def test_arguments_that_cannot_be_met_are_refused(self, plugin: ModuleType, arguments: dict[str, Any]) -> None:
        with pytest.raises(OptionError, match=next(iter(arguments))):
            plugin.SpecVLMForLmmsEval(**arguments)


PICTURE = Image.new("RGB", (8, 8))
FRAMES = [PICTURE, PICTURE]


@pytest.mark.parametrize(
    ("visuals", "videos", "images"),
    [
        (None, [], []),
        ([], [], []),
        ("a.mp4", ["a.mp4"], []),
        (["a.mp4", Path("b.mp4")], ["a.mp4", Path("b.mp4")], []),
        ([PICTURE, PICTURE], [], [PICTURE, PICTURE]),
        ([[PICTURE]], [], [PICTURE]),
        ([FRAMES], [FRAMES], []),
        ([FRAMES, PICTURE, "a.mp4"], [FRAMES, "a.mp4"], [PICTURE]),
    ],
)
def test_visuals_are_videos_or_images(plugin: ModuleType, visuals: Any, videos: list, images: list) -> None:
    assert plugin.sorted_visuals(visuals) == (videos, images)


def test_arrays_are_videos_or_images_by_their_axes(plugin: ModuleType) -> None:
    video, image = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    [video_found], [image_found] = plugin.sorted_visuals([video, image])
    assert video_found is video
    assert image_found is image


def test_sound_is_refused(plugin: ModuleType) -> None:
    with pytest.raises(OptionError, match="not of type dict"):
        plugin.sorted_visuals([{"array": [0.0], "sampling_rate": 16000}])


def test_an_answer_ends_before_what_it_was_stopped_at(plugin: ModuleType) -> None:
    assert plugin.cut("One. Two! Three.", ("!", ".")) == "One"
    assert plugin.cut("One", ()) == "One"


class TestRequests:
    """Made by hand, for what the little task has none of."""

    @pytest.fixture
    def ask(self, plugin: ModuleType) -> Callable:
        from lmms_eval.api.instance import Instance  # type: ignore[import-not-found]

        model = plugin.SpecVLMForLmmsEval("pocket", dtype="float32", num_frames=4)

        def ask(question: str, visuals: Any, **asked: Any) -> str:
            model.task_dict["films"] = {"test": [{"visuals": visuals}]}
            arguments = (question, asked, lambda doc: doc["visuals"], 0, "films", "test")
            about = {"task": "films", "doc_id": 0, "repeats": 1}
            request = Instance(request_type="generate_until", arguments=arguments, idx=0, metadata=about)
            [result] = model.generate_until([request])
            return result.text

        return ask

    def test_frames_are_a_video(self, ask: Callable, films: Path) -> None:
        vlm = specvlm.load("pocket", dtype="float32")
        clip = vlm.load_video(films / "0.mp4", num_frames=4)
        frames = [Image.fromarray(frame) for frame in clip.frames]
        expected = vlm.autoregressive(list(clip.frames), "Describe the video.", max_new_tokens=12, do_sample=False)
        assert ask("<video>Describe the video.", [frames], max_new_tokens=12) == expected.text

    def test_stops_are_left_out(self, ask: Callable, films: Path) -> None:
        whole = ask("Describe the video.", str(films / "1.mp4"), max_new_tokens=24)
        assert " on" in whole
        stopped = ask("Describe the video.", str(films / "1.mp4"), max_new_tokens=24, until=[" on"])
        assert stopped == whole.split(" on")[0]
