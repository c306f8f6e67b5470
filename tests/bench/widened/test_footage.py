"""Films of the length that was asked for, whose description is as long as the answer is to be."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

import specvlm.video as videos
from specvlm import pocket
from specvlm.answering.options import Options
from specvlm.bench.widened.footage import LEAST_FPS, SECONDS, TRAINED_FRAMES, choose_film, num_video_tokens, shoot
from specvlm.bench.widened.subjects import embedded
from specvlm.engine.stats import Stats
from specvlm.pipeline import SpecVLM
from specvlm.pocket.language import describe
from specvlm.pocket.world import make_scene


@lru_cache
def pair(family: str) -> SpecVLM:
    return embedded(family, torch.float32)


def length(vlm: SpecVLM, film: int) -> int:
    return 1 + len(vlm.target.tokenizer(describe(make_scene(pocket.HELD_OUT[film]))).input_ids)


@pytest.mark.parametrize("new_tokens", [1, 64, 100])
def test_the_description_is_long_enough_and_no_other_is_nearer(new_tokens):
    vlm = pair("llava_onevision")
    found = length(vlm, choose_film(vlm, new_tokens))
    assert found >= new_tokens
    assert not any(new_tokens <= length(vlm, film) < found for film in range(100))


def test_if_no_description_is_long_enough_the_longest_is_taken():
    vlm = pair("llava_onevision")
    assert choose_film(vlm, 10_000) == choose_film(vlm, 1000)
    assert length(vlm, choose_film(vlm, 1000)) > 115


@pytest.mark.parametrize("blanks", [False, True])
@pytest.mark.parametrize("family", pocket.FAMILIES)
def test_a_prompt_has_about_as_many_video_tokens_as_asked(family, blanks, tmp_path):
    vlm = pair(family)
    for wanted in (100, 500):
        film = shoot(vlm, tmp_path, wanted, 64, blanks=blanks)
        options = Options(num_frames=film.num_frames)
        prompt = vlm.prepare(film.path, film.question, options, Stats())
        assert abs(prompt.num_video_tokens - wanted) <= 18
        assert prompt.num_video_tokens == num_video_tokens(vlm, film.num_frames)
        assert film.num_blank == (max(0, film.num_frames - TRAINED_FRAMES) if blanks else 0)


def test_every_frame_is_in_the_file_once_and_the_film_is_as_long_as_the_models_know(tmp_path):
    """A camera as fast as it takes, so that Qwen-VL's clock shows what it showed when it learnt."""
    vlm = pair("llava_onevision")
    for wanted in (100, 1500):
        film = shoot(vlm, tmp_path, wanted, 64)
        clip = videos.load(film.path, num_frames=film.num_frames)
        assert len(clip.frames) == film.num_frames
        assert len(set(clip.timestamps.tolist())) == film.num_frames
        assert clip.duration == pytest.approx(SECONDS, abs=0.1)
        assert clip.source_fps >= LEAST_FPS
