"""FeatureCache: what was decoded and seen once isn't again, and every answer is the one that it would have been."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
import video_zoo
from specvlm import pipeline
from specvlm.answering import feature_cache
from specvlm.answering.feature_cache import PREPARED, FeatureCache
from specvlm.answering.options import Options
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError, VideoError
from specvlm.families import Family
from specvlm.pipeline import SpecVLM
from specvlm.prompts.album import Late, LateInputs
from specvlm.prompts.disk import SUFFIX

ASKED: dict[str, Any] = {"max_new_tokens": 8, "pruning_ratio": 0.5, "num_frames": 4}
QUESTION = "what happens?"


class Work:
    """What was done: sources decoded, processors called, and looks that towers took for specvlm, not for stock."""

    def __init__(self) -> None:
        self.decoded: list[Any] = []
        self.prepared = 0
        self.looks = 0

    @property
    def done(self) -> tuple[int, int, int]:
        """And begin anew."""
        found = len(self.decoded), self.prepared, self.looks
        self.__init__()
        return found


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    counted = Work()
    load, load_image, prompt = pipeline.videos.load, pipeline.videos.load_image, Family._prompt

    def counting(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(*asked: Any, **how: Any) -> Any:
            counted.decoded.append((*asked, *how.values()))
            return read(*asked, **how)

        return reading

    def counting_prompt(self: Family, *arguments: Any, **more: Any) -> Any:
        counted.prepared += 1
        return prompt(self, *arguments, **more)

    monkeypatch.setattr(pipeline.videos, "load", counting(load))
    monkeypatch.setattr(pipeline, "load_before", counting(pipeline.load_before))
    monkeypatch.setattr(pipeline.videos, "load_image", counting(load_image))
    monkeypatch.setattr(Family, "_prompt", counting_prompt)
    for owner in {type(tiny.family(tiny.model(name))) for name in tiny.BUILDERS}:
        see = owner.see

        def counting_see(self: Family, prompt: Any, see: Callable[..., Any] = see) -> Any:
            counted.looks += 1
            return see(self, prompt)

        monkeypatch.setattr(owner, "see", counting_see)
    return counted


def pair(cache: FeatureCache | None, family: str = "qwen2_5_vl", *, same_vision: bool = False) -> SpecVLM:
    """The same one each time, as another process would have it."""
    target = tiny.model(family)
    draft = tiny.noised(target, 0.05, same_vision=same_vision)
    return SpecVLM(tiny.family(target, "target"), tiny.family(draft, "draft"), feature_cache=cache)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_zoo.write(tmp_path_factory.mktemp("film") / "film.mp4", 12)


def again(cache: FeatureCache) -> FeatureCache:
    """As another process would have it."""
    return FeatureCache(cache.folder, cache.max_gb)


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_the_second_answer_decodes_and_sees_nothing(
    family: str, film: Path, cache: FeatureCache, work: Work, tmp_path: Path
) -> None:
    """Wherever the film is now; and it is the answer of stock generate, which gets the same pixels to the bit."""
    right = pair(None, family).generate(film, QUESTION, **ASKED)
    assert work.done == (1, 1, 2)
    first = pair(cache, family).generate(film, QUESTION, **ASKED)
    assert work.done == (1, 1, 2)
    moved = tmp_path / "elsewhere.mkv"
    moved.write_bytes(film.read_bytes())
    vlm = pair(again(cache), family)
    second = vlm.generate(moved, QUESTION, **ASKED)
    assert work.done == (0, 0, 0)
    assert right.token_ids == first.token_ids == second.token_ids
    assert second.stats.num_accepted == right.stats.num_accepted
    assert second.stats.num_video_tokens == right.stats.num_video_tokens > 0

    stock = vlm.autoregressive(moved, QUESTION, **ASKED)
    assert stock.token_ids == right.token_ids
    fresh = pair(None, family).prepare(film, QUESTION, Options(num_frames=4), Stats())
    known = vlm.prepare(film, QUESTION, Options(num_frames=4), Stats())
    assert isinstance(known.model_inputs, LateInputs)
    assert known.model_inputs.keys() == fresh.model_inputs.keys()
    assert all(torch.equal(known.model_inputs[name], fresh.model_inputs[name]) for name in fresh.model_inputs)
    assert torch.equal(known.position_ids, fresh.position_ids)


def test_another_question_next_day(film: Path, cache: FeatureCache, work: Work) -> None:
    """The draft may look at frames that it has not seen, whose pixels are known."""
    pair(cache, same_vision=True).generate(film, QUESTION, **ASKED)
    assert work.done == (1, 1, 1)
    asked = {"system": "you look", "history": (("a ball?", "yes"),)} | ASKED
    question = "describe it in detail"
    right = pair(None).generate(film, question, **asked)
    assert work.done == (1, 1, 2)
    ours = pair(again(cache), same_vision=True).generate(film, question, **asked)
    assert work.done == (0, 0, 0)
    assert ours.token_ids == right.token_ids
    apart = pair(again(cache)).generate(film, question, **asked)  # a draft with eyes of its own
    assert work.done == (0, 0, 1)
    assert apart.token_ids == right.token_ids


def test_a_video_that_is_watched(film: Path, cache: FeatureCache, work: Work) -> None:
    for expected in ((1, 1, 2), (0, 0, 0)):
        vlm = pair(again(cache))
        watched = vlm.watch(film, **ASKED)
        answers = [watched.ask(question).token_ids for question in (QUESTION, QUESTION)]
        assert work.done == expected
        assert watched.nbytes > 0
        assert answers == [watched.autoregressive(QUESTION).token_ids] * 2
    held = watched.nbytes  # stock has had the pixels
    assert pair(again(cache)).watch(film, **ASKED).nbytes == 0 < held


def test_pixels_stay_on_the_disk_until_they_are_looked_at(film: Path, cache: FeatureCache) -> None:
    pair(cache).generate(film, QUESTION, **ASKED)
    vlm = pair(again(cache))
    watched = vlm.watch(film, **ASKED)
    watched.ask(QUESTION)
    before = watched.nbytes
    pixels = vlm.prepare(film, QUESTION, Options(num_frames=4), Stats()).model_inputs["pixel_values_videos"].nbytes
    watched.autoregressive(QUESTION)
    assert watched.nbytes == before + pixels


OTHERWISE: dict[str, dict[str, Any]] = {
    "more frames": {"num_frames": 6},
    "a rate": {"num_frames": None, "fps": 2.0},
    "more pixels": {"max_pixels": 4096},
    "an image": {"images": (tiny.image(),)},
    "two videos": {"more_videos": (tiny.film(4, 2),)},
}


@pytest.mark.part(2)
@pytest.mark.parametrize("what", OTHERWISE)
def test_what_is_looked_at_otherwise_is_something_else(what: str, film: Path, cache: FeatureCache, work: Work) -> None:
    pair(cache).generate(film, QUESTION, **ASKED)
    assert work.done[1:] == (1, 2)
    asked = ASKED | OTHERWISE[what]
    answers = []
    for expected in ((1, 2), (0, 0)):
        answers.append(pair(again(cache)).generate(film, QUESTION, **asked).token_ids)
        assert work.done[1:] == expected
    assert [pair(None).generate(film, QUESTION, **asked).token_ids] * 2 == answers


@pytest.mark.parametrize("kind", ["bytes", "video", "array", "folder", "text"])
def test_whatever_a_video_comes_in(kind: str, film: Path, cache: FeatureCache, work: Work, tmp_path: Path) -> None:
    source: Any = film.read_bytes()
    if kind in ("video", "array"):
        source = tiny.film(4, 3) if kind == "video" else tiny.film(4, 3).frames
    if kind == "folder":
        source = tmp_path / "pictures"
        source.mkdir()
        for number in range(3):
            Image.fromarray(tiny.image(number)).save(source / f"{number}.png")
    source = None if kind == "text" else source
    asked = {"max_new_tokens": 6}
    answers = [pair(again(cache)).generate(source, QUESTION, **asked).token_ids for _ in range(2)]
    assert work.prepared == (2 if kind == "text" else 1)
    assert answers == [pair(None).generate(source, QUESTION, **asked).token_ids] * 2


def test_an_open_file_can_t_be_told_before_it_is_read(film: Path, cache: FeatureCache, work: Work) -> None:
    with film.open("rb") as file:
        answers = [pair(again(cache)).generate(file, QUESTION, **ASKED).token_ids for _ in range(2)]
    assert work.done == (2, 2, 4)
    assert answers == [pair(None).generate(film, QUESTION, **ASKED).token_ids] * 2


def test_a_file_with_other_content_is_another(cache: FeatureCache, work: Work, tmp_path: Path) -> None:
    path = video_zoo.write(tmp_path / "film.mp4", 12)
    vlm = pair(cache)
    vlm.generate(path, QUESTION, **ASKED)
    video_zoo.write(path, 30)
    found = vlm.generate(path, QUESTION, **ASKED)
    assert work.done == (2, 2, 4)
    assert found.token_ids == pair(None).generate(path, QUESTION, **ASKED).token_ids


def test_a_file_that_changes_while_it_is_decoded_is_not_kept(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was hashed isn't what was decoded."""
    path = video_zoo.write(tmp_path / "film.mp4", 12)
    load = pipeline.videos.load

    def replacing(source: Any, **how: Any) -> Any:
        video_zoo.write(path, 30)
        return load(source, **how)

    monkeypatch.setattr(pipeline.videos, "load", replacing)
    pair(cache).generate(path, QUESTION, **ASKED)
    assert list(Path(cache.folder).iterdir()) == []


def _entry(cache: FeatureCache, vlm: SpecVLM, film: Path) -> Path:
    """The file of what was prepared."""
    options = Options(**ASKED)
    album = cache._album(vlm.target, [film], options)
    assert album is not None
    return Path(cache.folder) / f"{album._name(PREPARED)}{SUFFIX}"


def test_pixels_that_are_not_whole_are_made_again(film: Path, cache: FeatureCache, work: Work) -> None:
    """Nobody looks at them but stock generate, or a draft: then it is too late to say that nothing is known."""
    vlm = pair(cache)
    right = vlm.generate(film, QUESTION, **ASKED).token_ids
    path = _entry(cache, vlm, film)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # pixels stand last
    path.write_bytes(content)
    assert work.done == (1, 1, 2)
    other = pair(again(cache))
    assert other.generate(film, QUESTION, **ASKED).token_ids == right
    assert work.done == (0, 0, 0)
    assert other.autoregressive(film, QUESTION, **ASKED).token_ids == right
    assert work.done == (1, 1, 0)
    assert not path.exists()
    pair(again(cache)).generate(film, QUESTION, **ASKED)
    assert work.done == (1, 1, 0)
    assert path.exists()


def test_a_video_that_is_another_by_then_is_refused(cache: FeatureCache, tmp_path: Path) -> None:
    path = video_zoo.write(tmp_path / "film.mp4", 12)
    vlm = pair(cache)
    vlm.generate(path, QUESTION, **ASKED)
    entry = _entry(cache, vlm, path)
    prompt = vlm.prepare(path, QUESTION, Options(**ASKED), Stats())
    content = bytearray(entry.read_bytes())
    content[-100] ^= 1
    entry.write_bytes(content)
    video_zoo.write(path, 30)
    with pytest.raises(VideoError, match="has changed since"):
        prompt.model_inputs["pixel_values_videos"]


def test_damage_is_told_of_on_later_days_too(cache: FeatureCache, tmp_path: Path) -> None:
    path = video_zoo.write(tmp_path / "film.mkv", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    vlm, options = pair(cache), Options(**ASKED)
    told = vlm.load_video(path, options).damage
    assert told is not None
    for answering in (vlm, vlm, pair(again(cache))):
        [line] = answering.generate(path, QUESTION, options).stats.damage
        assert line.endswith(told)


def test_it_is_bounded(film: Path, tmp_path: Path) -> None:
    small = FeatureCache(tmp_path / "cache", 3e-5)
    answers = [pair(again(small)).generate(tiny.film(4, seed), QUESTION, **ASKED).token_ids for seed in range(3)]
    assert small.disk.nbytes <= 30_000
    assert answers == [pair(None).generate(tiny.film(4, seed), QUESTION, **ASKED).token_ids for seed in range(3)]


def test_knows_what_can_be_read(film: Path, cache: FeatureCache) -> None:
    options = Options(**ASKED)
    assert not cache.knows(film, options)
    pair(cache).generate(film, QUESTION, options)
    assert again(cache).knows(film.read_bytes(), Options(num_frames=2))
    assert not again(cache).knows(film, Options(images=(tiny.image(),)))


def test_a_file_is_hashed_once_a_process(film: Path, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Any] = []
    content = feature_cache.content
    monkeypatch.setattr(feature_cache, "content", lambda source: hashed.append(source) or content(source))
    vlm = pair(cache)
    for _ in range(3):
        vlm.generate(film, QUESTION, **ASKED)
    assert hashed == [film]


def test_what_is_no_place_for_a_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="file can't hold a feature cache: File exists"):
        FeatureCache(tmp_path / "file")
    with pytest.raises(OptionError, match="more than 0 GB"):
        FeatureCache(tmp_path, 0.0)
    assert FeatureCache.of(None) is None
    made = FeatureCache.of(os.fspath(tmp_path / "new"))
    assert made is not None
    assert Path(made.folder).is_dir()
    assert FeatureCache.of(made) is made


def test_stand_ins_are_no_numbers() -> None:
    """Should anybody compute with one, nothing plausible comes of it."""
    late = Late({"pixel_values": (2, 3)}, lambda: {"pixel_values": torch.zeros(2, 3)})
    [stand_in] = LateInputs({}, late).without_pixels().values()
    assert stand_in.shape == (2, 3)
    assert bool(stand_in.isnan().all())
    assert np.asarray(stand_in).strides == (0, 0)
