"""Every published layout is read as it is: the right video, the right question, the right answer."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio, Dataset, Features, Image, Value, Video

import video_zoo
from evals.layouts import LAYOUTS, NUM_FILMS, SUBSETS, colours, film
from specvlm.errors import OptionError
from specvlm.evals import rows
from specvlm.evals.sample import Sample
from specvlm.evals.shelf import MissingVideoError, Shelf
from specvlm.evals.tasks import PAPER_PROMPT, TASKS, Task, make_task

MOVING = {
    ".mts": ("mpegts", "libx264"),
    ".M2TS": ("mpegts", "libx264"),
    ".tod": ("mpegts", "mpeg2video"),
    ".mod": ("vob", "mpeg2video"),
    ".vob": ("vob", "mpeg2video"),
    ".mpg": ("mpeg", "mpeg1video"),
    ".3gp": ("3gp", "mpeg4"),
    ".ogv": ("ogg", "libvpx"),
    ".flv": ("flv", "libx264"),
    ".wmv": ("asf", "mpeg4"),
    ".asf": ("asf", "mpeg4"),
    ".mxf": ("mxf", "mpeg2video"),
    ".m4v": ("mp4", "libx264"),
    ".y4m": ("yuv4mpegpipe", "rawvideo"),
    ".nut": ("nut", "libx264"),
    ".unheard_of": ("matroska", "libx264"),
    "": ("avi", "mpeg4"),
}
"""Endings of videos that there are, and what is in them."""
MULTIPLE_CHOICE = ("mvbench", "mlvu", "longvideobench", "videomme")


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Task]:
    """A task over its layout, which is made once."""
    made: dict[str, Path] = {}

    def over(name: str, **options: object) -> Task:
        if name not in made:
            made[name] = LAYOUTS[name](tmp_path_factory.mktemp(name))
        return make_task(name, data=str(made[name]), subsets=SUBSETS.get(name, ()), **options)

    return over


def test_every_task_has_a_layout() -> None:
    assert TASKS.keys() == LAYOUTS.keys() | {"pocket"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_reads_its_layout(task: Callable[..., Task], name: str) -> None:
    samples = task(name).samples()
    assert len(samples) == (4 if name == "mvbench" else NUM_FILMS)
    assert len({sample.sample_id for sample in samples}) == len(samples)
    for sample in samples:
        assert sample.problem is None
        assert Path(sample.video).is_file()


@pytest.mark.parametrize("name", MULTIPLE_CHOICE)
def test_the_right_option_of_each_question(task: Callable[..., Task], name: str) -> None:
    it = task(name)
    for sample in it.samples():
        number = int(Path(sample.video).stem[-1])
        question, options, right = colours(number)
        letter = "ABCD"[options.index(right)]
        assert question in sample.question
        assert [choice.strip(".") for choice in sample.choices] == options
        assert all(option in sample.question for option in options)
        assert sample.answer == letter
        assert it.score(sample, f"({letter})") == {"accuracy": (1, 1), "understood": (1, 1)}
        assert it.score(sample, right) == {"accuracy": (1, 1), "understood": (1, 1)}
        wrong = "ABCD"[(options.index(right) + 1) % 4]
        assert it.score(sample, f"The answer is {wrong}.") == {"accuracy": (0, 1), "understood": (1, 1)}
        assert it.score(sample, "no idea") == {"accuracy": (0, 1), "understood": (0, 1)}


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("mvbench", "\nOnly give the best option.\nBest option: ("),
        ("mlvu", "\nOnly give the best option.\nBest option: ("),
        ("longvideobench", "\nAnswer with the option's letter from the given choices directly."),
        ("videomme", "\nThe best answer is:"),
    ],
)
def test_asks_as_the_authors_do(task: Callable[..., Task], name: str, ending: str) -> None:
    assert all(sample.question.endswith(ending) for sample in task(name).samples())


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_papers_prompt(task: Callable[..., Task], name: str) -> None:
    """Every video is described, and what offered options can't be graded any more."""
    it = task(name, prompt="paper")
    for sample in it.samples():
        assert (sample.question, sample.system, sample.choices) == (PAPER_PROMPT, None, ())
        if name in MULTIPLE_CHOICE:
            assert it.score(sample, "A") == {}


def test_subsets_take_turns(task: Callable[..., Task]) -> None:
    it = task("mvbench")
    assert [sample.group for sample in it.samples()] == ["action_antonym", "object_shuffle"] * 2
    assert [sample.group for sample in it.samples(2)] == ["action_antonym", "object_shuffle"]


def test_one_name_in_two_folders_is_that_of_the_subset(task: Callable[..., Task]) -> None:
    for sample in task("mvbench").samples():
        assert {"action_antonym": "ssv2_video_mp4", "object_shuffle": "perception"}[sample.group] in sample.video


def test_a_part_of_a_video_is_what_some_questions_are_about(tmp_path: Path) -> None:
    rows = [{"video": "a.mp4", "question": "?", "candidates": ["x", "y"], "answer": "y", "start": 1.0, "end": 2.5}]
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "action_sequence.json").write_text(json.dumps(rows))
    film(tmp_path / "star" / "Charades_v1_480" / "a.mp4", 0)
    [sample] = make_task("mvbench", data=str(tmp_path), subsets=("action_sequence",)).samples()
    assert sample.span == (1.0, 2.5)
    (tmp_path / "star" / "Charades_v1_480").rename(tmp_path / "star" / "Charades_segment")
    [sample] = make_task("mvbench", data=str(tmp_path), subsets=("action_sequence",)).samples()
    assert sample.span is None  # it was cut by those who made the archive


def test_mlvu_with_its_options_apart(tmp_path: Path) -> None:
    row = {
        "video": "a.mp4",
        "question": "What is it?",
        "candidates": ["a cat", "a dog"],
        "answer": "a dog",
        "question_type": "plotQA",
    }
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "1_plotQA.json").write_text(json.dumps([row]))
    film(tmp_path / "video" / "1_plotQA" / "a.mp4", 0)
    [sample] = make_task("mlvu", data=str(tmp_path)).samples()
    assert (sample.answer, sample.group) == ("B", "plotQA")
    assert "(A) a cat\n(B) a dog" in sample.question


def test_longvideobench_in_its_own_json(task: Callable[..., Task], tmp_path: Path) -> None:
    rows = [{"video_path": "a.mp4", "question": "?", "candidates": ["x", "y"], "correct_choice": 1}]
    (tmp_path / "lvb_val.json").write_text(json.dumps(rows))
    film(tmp_path / "videos" / "a.mp4", 0)
    [sample] = make_task("longvideobench", data=str(tmp_path)).samples()
    assert (sample.choices, sample.answer) == (("x", "y"), "B")


def test_answers_that_are_kept_secret(task: Callable[..., Task]) -> None:
    it = task("longvideobench", split="test")
    samples = it.samples()
    assert [sample.answer for sample in samples] == [""] * NUM_FILMS
    assert it.score(samples[0], "A") == {}


def test_videos_elsewhere(task: Callable[..., Task], tmp_path: Path) -> None:
    there = task("video_detail_caption")
    rows = tmp_path / "data"
    rows.mkdir()
    for file in Path(there.data, "data").iterdir():
        (rows / file.name).write_bytes(file.read_bytes())
    it = make_task("video_detail_caption", data=str(tmp_path), videos=there.data)
    assert [sample.video for sample in it.samples()] == [sample.video for sample in there.samples()]


def test_from_the_hub(task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    """By its id, with the videos unpacked somewhere."""
    local = task("video_detail_caption")
    published = [dict(row.values) for row in local._rows("")]
    asked = []

    class Library:
        @staticmethod
        def load_dataset(path: str, name: str | None, *, split: str) -> Dataset:
            asked.append((path, name, split))
            return Dataset.from_list(published)

    monkeypatch.setattr(rows, "datasets", lambda: nullcontext(Library))
    it = make_task("video_detail_caption", videos=local.data)
    assert [sample.answer for sample in it.samples()] == [row["answer"] for row in published]
    assert asked == [("lmms-lab/VideoDetailCaption", None, "test")]


def test_what_the_hub_has_against_it_is_told(tmp_path: Path) -> None:
    it = make_task("video_detail_caption", data="no/such-data", videos=str(tmp_path))
    with pytest.raises(OptionError, match="no/such-data"):
        it.samples()


class TestCellsThatNameFiles:
    """In the columns of a parquet file that their library takes for pictures, sounds or films."""

    ROW: ClassVar = {"video_name": "a", "question": "What?", "answer": "red"}

    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Whatever the library opens, here or elsewhere, but for the file of rows."""
        paths: list[str] = []
        real = builtins.open

        def spy(file: Any, *arguments: Any, **how: Any) -> Any:
            paths.append(str(file))
            return real(file, *arguments, **how)

        monkeypatch.setattr(builtins, "open", spy)
        monkeypatch.setattr(fsspec, "open", lambda url, *_, **__: paths.append(str(url)))
        return paths

    @pytest.mark.parametrize("kind", [Image, Audio, Video])
    @pytest.mark.parametrize("nested", [False, True])
    @pytest.mark.parametrize(
        "where",
        ["{root}/secret", "https://nobody.invalid/secret", "zip://secret::{root}/x.zip"],
        ids=["a path", "an address", "an archive"],
    )
    def test_open_none(self, tmp_path: Path, opened: list[str], kind: type, nested: bool, where: str) -> None:
        (tmp_path / "secret").write_text("not yours")
        film(tmp_path / "data" / "a.mp4", 0)
        feature = [kind()] if nested else kind()
        features = Features({**dict.fromkeys(self.ROW, Value("string")), "media": feature})
        stored = {"path": where.format(root=tmp_path), "bytes": None}
        storage = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        column = pa.array([[stored]] if nested else [stored], type=pa.list_(storage) if nested else storage)
        table = pa.table({**{name: [value] for name, value in self.ROW.items()}, "media": column})
        table = table.replace_schema_metadata(features.arrow_schema.metadata)
        pq.write_table(table, tmp_path / "data" / "test-00000-of-00001.parquet")
        it = make_task("video_detail_caption", data=str(tmp_path / "data"))
        [sample] = it.samples()
        assert (sample.problem, sample.answer) == (None, "red")
        assert [row.values["media"] for row in it._rows("")] == [[stored] if nested else stored]
        assert not [path for path in opened if "secret" in path]

    def test_are_no_names_of_videos(self, tmp_path: Path) -> None:
        film(tmp_path / "data" / "a.mp4", 0)
        rows = [self.ROW | {"video_name": name} for name in ("https://nobody.invalid/a.mp4", "../data/a.mp4", "/a.mp4")]
        Dataset.from_list(rows).to_parquet(str(tmp_path / "data" / "test-00000-of-00001.parquet"))
        samples = make_task("video_detail_caption", data=str(tmp_path / "data")).samples()
        assert all("there is no video" in str(sample.problem) for sample in samples)


@pytest.mark.parametrize("name", ["questions.csv", "questions.jsonl", "questions.parquet"])
def test_a_pipe_of_rows_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(OptionError, match=name):
        make_task("folder", data=str(tmp_path)).samples()


class TestWhatIsBroken:
    """A row or video that can't be had is told, and the others are asked."""

    def test_missing_video(self, tmp_path: Path) -> None:
        root = LAYOUTS["video_detail_caption"](tmp_path)
        (root / "Test_Videos" / "v_-1pq.mp4").unlink()
        samples = make_task("video_detail_caption", data=str(root)).samples()
        assert [sample.problem is None for sample in samples] == [True, False, True]
        assert "v_-1pq" in str(samples[1].problem)

    def test_the_wanted_number_is_of_those_that_can_be_asked(self, tmp_path: Path) -> None:
        root = LAYOUTS["video_detail_caption"](tmp_path)
        (root / "Test_Videos" / "v_-0pq.mp4").unlink()
        samples = make_task("video_detail_caption", data=str(root)).samples(1)
        assert [sample.problem is None for sample in samples] == [False, True]

    @pytest.mark.parametrize(
        ("line", "what"),
        [
            ('{"video": "0.mp4", "que', "JSON"),
            ("[1, 2]", "object"),
            ('{"video": "0.mp4"}', "question"),
            ('{"video": "0.mp4", "question": null}', "question"),
            ('{"video": "0.mp4", "question": "  "}', "question"),
            ('{"video": "0.mp4", "question": "?", "candidates": ["x"], "answer": "z"}', "'z'"),
            ('{"video": "0.mp4", "question": "?", "candidates": 7}', "candidates"),
            ('{"video": ["0.mp4"], "question": "?"}', "video"),
        ],
    )
    def test_unreadable_row(self, tmp_path: Path, line: str, what: str) -> None:
        film(tmp_path / "0.mp4", 0)
        good = '{"video": "0.mp4", "question": "What?"}'
        (tmp_path / "questions.jsonl").write_text(f"{good}\n{line}\n{good}\n")
        samples = make_task("folder", data=str(tmp_path)).samples()
        assert [sample.problem is None for sample in samples] == [True, False, True]
        assert what in str(samples[1].problem)
        assert "row 1" in str(samples[1].problem)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        film(tmp_path / "0.mp4", 0)
        good = b'{"video": "0.mp4", "question": "What?"}\n'
        (tmp_path / "questions.jsonl").write_bytes(good + b'{"video": "\xff\xfe"}\n' + good)
        samples = make_task("folder", data=str(tmp_path)).samples()
        assert [sample.problem is None for sample in samples] == [True, False, True]

    @pytest.mark.parametrize("choice", [7, -2, "x", 1.5])
    def test_a_right_option_that_there_is_not(self, tmp_path: Path, choice: object) -> None:
        rows = [{"video_path": "a.mp4", "question": "?", "candidates": ["x", "y"], "correct_choice": choice}]
        (tmp_path / "lvb_val.json").write_text(json.dumps(rows))
        film(tmp_path / "videos" / "a.mp4", 0)
        [sample] = make_task("longvideobench", data=str(tmp_path)).samples()
        assert "correct_choice" in str(sample.problem)


@pytest.mark.parametrize(
    ("options", "naming"),
    [
        ({"data": "/no/such/folder"}, "/no/such/folder"),
        ({"data": "/", "subsets": ("action_antonym",)}, "action_antonym"),
        ({"data": "/", "videos": "/no/such/folder"}, "/no/such/folder"),
        ({}, "needs data"),
    ],
)
def test_options_that_are_wrong(options: dict, naming: str) -> None:
    with pytest.raises(OptionError, match=naming):
        make_task("folder", **options)


def test_no_such_task() -> None:
    with pytest.raises(OptionError, match="mvbench"):
        make_task("mvbrench", data="/")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no rows"):
        make_task("folder", data=str(tmp_path)).samples()
    with pytest.raises(OptionError, match="has no file"):
        make_task("mlvu", data=str(tmp_path)).samples()


class TestFolder:
    def test_without_questions_every_video_is_described(self, tmp_path: Path) -> None:
        film(tmp_path / "b.mp4", 0)
        film(tmp_path / "a" / "c.mp4", 0)
        samples = make_task("folder", data=str(tmp_path)).samples()
        assert [(sample.sample_id, sample.question) for sample in samples] == [
            ("a/c.mp4", PAPER_PROMPT),
            ("b.mp4", PAPER_PROMPT),
        ]

    def test_every_file_that_moves_is_a_video_whatever_it_is_called(self, tmp_path: Path) -> None:
        for number, (name, (form, codec)) in enumerate(MOVING.items()):
            video_zoo.write(tmp_path / "made", 6, format=form, codec=codec, rate=25)
            (tmp_path / "made").rename(tmp_path / f"{number}{name}")
        pictures = [PIL.Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in (0, 99, 199)]
        for name in ("a.gif", "a.avif", "a.apng"):
            pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=100)
        wanted = sorted(path.name for path in tmp_path.iterdir())
        for name in ("photo.jpg", "photo.png", "photo.webp", "photo.gif", "photo.avif"):
            pictures[0].save(tmp_path / name)
        (tmp_path / "notes.txt").write_text("nothing to see")
        (tmp_path / "program.ts").write_text("export const video = 1;")
        (tmp_path / "empty.bin").write_bytes(b"")
        (tmp_path / ".hidden.mp4").write_bytes((tmp_path / wanted[0]).read_bytes())
        os.mkfifo(tmp_path / "pipe")
        video_zoo.write_audio(tmp_path / "song.m4a")
        task = make_task("folder", data=str(tmp_path))
        assert [sample.sample_id for sample in task.samples()] == wanted
        assert task.passed_over().startswith(f"not taken for videos in {tmp_path}: 10 ")
        assert "\n" not in task.passed_over()

    def test_a_video_that_cannot_be_read_is_told_not_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" * 9)
        task = make_task("folder", data=str(tmp_path))
        assert [sample.sample_id for sample in task.samples()] == ["broken.mp4"]
        assert task.passed_over() == ""

    def test_a_run_in_the_folder_holds_no_videos(self, tmp_path: Path) -> None:
        film(tmp_path / "film.mp4", 0)
        for place in ("run", "more/run", ".hidden"):
            film(tmp_path / place / "data" / "film.mp4", 1)
        config = json.dumps({"asked": {"task": {}, "settings": []}, "sessions": []})
        for place in ("run", "more/run"):
            (tmp_path / place / "config.json").write_text(config)
        film(tmp_path / "model" / "film.mp4", 0)
        (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen2_vl"}')
        task = make_task("folder", data=str(tmp_path))
        assert [sample.sample_id for sample in task.samples()] == ["film.mp4", "model/film.mp4"]
        assert "more/run/, run/" in task.passed_over()
        (tmp_path / "questions.csv").write_text("video,question\nfilm,what?\nmore/run/data/film.mp4,what?\n")
        problems = [sample.problem for sample in make_task("folder", data=str(tmp_path)).samples()]
        assert "there are 2 videos" in (problems[0] or "")
        assert "there is no video" in (problems[1] or "")

    def test_a_video_beside_its_subtitles(self, tmp_path: Path) -> None:
        """Of those that are called alike, the one that is a video is meant, whatever its ending is."""
        video_zoo.write(tmp_path / "made", 6, format="mpegts")
        (tmp_path / "made").rename(tmp_path / "clip.tod")
        for name in ("clip.srt", "clip.txt", "clip.json", "clip.jpg"):
            (tmp_path / name).write_text("1\n00:00:00,000 --> 00:00:02,000\nLook.\n")
        (tmp_path / "questions.csv").write_text("video,question\nclip,what?\nclip.mts,what?\nclip.tod,what?\n")
        samples = make_task("folder", data=str(tmp_path)).samples()
        assert [Path(sample.video).name for sample in samples] == ["clip.tod"] * 3

    def test_three_kinds_of_questions(self, task: Callable[..., Task]) -> None:
        it = task("folder")
        caption, choice, other = it.samples()
        assert it.score(caption, caption.answer).keys() == {"chrF++"}
        assert it.score(choice, f"({choice.answer})")["accuracy"] == (1, 1)
        assert it.score(other, "Three.") == {}

    def test_questions_with_a_byte_order_mark(self, tmp_path: Path) -> None:
        film(tmp_path / "a.mp4", 0)
        (tmp_path / "questions.csv").write_text("\ufeffvideo,question\na.mp4,What?\n", encoding="utf-8")
        [sample] = make_task("folder", data=str(tmp_path)).samples()
        assert sample.problem is None


class TestPocket:
    def test_films_in_the_layout_of_video_detail_caption(self, tmp_path: Path) -> None:
        it = make_task("pocket", data=str(tmp_path))
        samples = it.samples(2)
        same = make_task("video_detail_caption", data=str(tmp_path)).samples()
        assert same == samples
        scores = it.score(samples[0], samples[0].answer)
        assert scores.keys() == {"colour", "size", "shape", "place", "motion", "order", "all"}
        assert scores["all"] == tuple(map(sum, zip(*(scores[name] for name in scores if name != "all"), strict=True)))
        assert all(right == asked for right, asked in scores.values())
        assert any(right < asked for right, asked in it.score(samples[0], samples[1].answer).values())

    def test_films_that_are_there_stay(self, tmp_path: Path) -> None:
        it = make_task("pocket", data=str(tmp_path))
        [sample] = it.samples(1)
        before = Path(sample.video).stat().st_mtime_ns
        assert it.samples(1) == [sample]
        assert Path(sample.video).stat().st_mtime_ns == before


class TestCaptions:
    def test_the_reference_itself_is_best(self, task: Callable[..., Task]) -> None:
        it = task("video_detail_caption")
        first, second, *_ = it.samples()
        best, other, empty = (it.score(first, text)["chrF++"][0] for text in (first.answer, second.answer, ""))
        assert best == 100
        assert best > other > empty == 0
        assert it.total_scores([(first, first.answer)])["BLEU"][0] == pytest.approx(100)
        assert it.total_scores([(first, second.answer)])["BLEU"][0] < 100


class TestShelf:
    @pytest.fixture
    def shelf(self, tmp_path: Path) -> Shelf:
        for name in ("a/x.mp4", "b/x.mp4", "b/y.MKV", "c/v1.2.mp4", "d/only.mp4", "d/only.webm", "e/.hidden.mp4"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "frames" / "clip7").mkdir(parents=True)
        (tmp_path / "frames" / "clip7" / "00001.jpg").touch()
        return Shelf(tmp_path)

    @pytest.mark.parametrize(
        ("name", "within", "found"),
        [
            ("a/x.mp4", "", "a/x.mp4"),
            ("x.mp4", "b", "b/x.mp4"),
            ("y.mp4", "", "b/y.MKV"),
            ("y", "", "b/y.MKV"),
            ("v1.2", "", "c/v1.2.mp4"),
            ("only.webm", "", "d/only.webm"),
            ("clip7", "", "frames/clip7"),
        ],
    )
    def test_finds(self, shelf: Shelf, name: str, within: str, found: str) -> None:
        assert shelf.find(name, within=within) == shelf.root / found

    @pytest.mark.parametrize("name", ["z.mp4", "x.mp4", "c/x.mp4", "v1", ".hidden.mp4", "", "only", "../a/x.mp4"])
    def test_finds_none_or_two(self, shelf: Shelf, name: str) -> None:
        with pytest.raises(MissingVideoError):
            shelf.find(name)

    def test_an_address_says_itself_where_the_video_is(self, shelf: Shelf, tmp_path: Path) -> None:
        elsewhere = tmp_path / "a film: 1.mp4"
        elsewhere.touch()
        assert Shelf(shelf.root / "a").find(elsewhere.as_uri()) == elsewhere
        for uri in ("file:///no/such/film.mp4", "file://server/film.mp4", "file:film.mp4"):
            with pytest.raises(MissingVideoError):
                shelf.find(uri)


def test_the_order_is_that_of_the_data_or_of_a_seed(task: Callable[..., Task]) -> None:
    def ids(seed: int | None) -> list[str]:
        return [sample.sample_id for sample in task("mvbench").samples(order_seed=seed)]

    assert ids(None) == sorted(ids(None), key=lambda name: name.split("/")[1])
    assert ids(7) == ids(7)
    assert len({tuple(ids(seed)) for seed in range(5)}) > 1
    assert {*ids(7)} == {*ids(None)}


def test_a_sample_is_plain_values(task: Callable[..., Task]) -> None:
    import pickle

    for sample in task("mvbench").samples():
        assert pickle.loads(pickle.dumps(sample)) == sample
        assert isinstance(sample, Sample)
