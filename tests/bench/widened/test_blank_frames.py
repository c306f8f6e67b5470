"""A widened pocket model answers about a long film as the pocket model answers about its short part."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, PreTrainedModel

import specvlm
import tiny
from bench.small import POCKET_SHAPES
from specvlm import pocket
from specvlm.bench.widened.blank_frames import (
    COLOURS,
    blank_frames,
    eyes_of,
    learn_detector,
    long_film,
    num_frames_of,
    through_codec,
    write_mp4,
)
from specvlm.bench.widened.blindness import FLAG_WEIGHT, REACH, Detector
from specvlm.bench.widened.shapes import Shape
from specvlm.bench.widened.widening import widen
from specvlm.errors import ModelError, OptionError
from specvlm.families import load_family
from specvlm.pocket.world import make_scene, render
from specvlm.prompts.prompt import Prompt
from specvlm.video import Video

CLOSE = 1e-9
QUESTION = "Describe the video in detail."
SHAPES = {
    ("llava_onevision", "target"): POCKET_SHAPES["target"],
    ("llava_onevision", "draft"): POCKET_SHAPES["draft"],
    ("qwen2_5_vl", "target"): POCKET_SHAPES["target"],
    ("qwen2_5_vl", "draft"): replace(POCKET_SHAPES["draft"], hidden=512, heads=4, head_dim=128),
}
"""As in the published pairs, all heads become longer but those of LLaVA-OneVision's draft."""
GIVES_UP = {("llava_onevision", "draft"), ("qwen2_5_vl", "target"), ("qwen2_5_vl", "draft")}

pytestmark = pytest.mark.filterwarnings("ignore:.*non-writable:UserWarning")


@pytest.fixture(params=SHAPES, ids=lambda case: " ".join(case))
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A family and a role."""
    return request.param


@lru_cache
def small(family: str, role: str, dtype: torch.dtype) -> Any:
    return AutoModelForImageTextToText.from_pretrained(pocket.path(family, role), dtype=dtype).eval()


@lru_cache
def detector(family: str) -> Detector:
    """One for both models: their towers are the same, and so are the Qwen pair's mergers."""
    return learn_detector(small(family, "target", torch.float32))


@lru_cache
def wide(family: str, role: str, dtype: torch.dtype) -> Any:
    return widen(small(family, role, dtype), SHAPES[family, role], detector=detector(family), dtype=dtype)


@torch.no_grad()
def as_widened(family: str, role: str) -> Any:
    """The small model without what a widened one has to give up."""
    model, found = copy.deepcopy(small(family, role, torch.float64)), detector(family)
    if family == "qwen2_5_vl":
        last = model.model.visual.merger.mlp[-1]
        last.bias += found.usual * last.weight[:, found.unit]
        last.weight[:, found.unit] = 0
    else:
        for layer in model.model.language_model.layers:
            query = layer.self_attn.q_proj
            for part in (query.weight.unflatten(0, (-1, 64)), query.bias.unflatten(0, (-1, 64))):
                part[:, [31, 63]] = 0
    return model


def short_film(number: int = 0, num_frames: int = 8, size: int = 96) -> np.ndarray:
    return render(make_scene(pocket.HELD_OUT[number]), np.arange(num_frames) / num_frames, size)


def prompts(model: PreTrainedModel, num_frames: int, frames: np.ndarray) -> tuple[Prompt, Prompt, Tensor]:
    """One about the long film, one about the short one, and where the tokens of the latter are in the former."""
    family = load_family(model)
    side = eyes_of(family).side
    long, short = (family.prepare([Video(film)], QUESTION) for film in (long_film(frames, num_frames, side), frames))
    surplus = long.num_video_tokens - short.num_video_tokens
    real = torch.arange(short.num_video_tokens) + (surplus if side == "before" else 0)
    return long, short, long.kept_tokens(real)


@torch.no_grad()
def logits(model: Any, prompt: Prompt, positions: Tensor | None = None) -> Tensor:
    """`[L, vocab]`, at other positions `[R, L]` than the prompt's if there are any."""
    given = {
        name: value.to(model.dtype) if name.startswith("pixel_values") else value
        for name, value in prompt.model_inputs.items()
    }
    if positions is not None:
        given["position_ids"] = positions if len(positions) == 1 else positions[:, None]
    return model(**given).logits[0]


def difference(small_logits: Tensor, wide_logits: Tensor) -> float:
    """The largest, as a part of the largest logit."""
    return float((wide_logits[:, : small_logits.shape[1]] - small_logits).abs().max() / small_logits.abs().max())


@pytest.mark.part(2)
@pytest.mark.usefixtures("exact_norms")
def test_all_other_tokens_have_the_small_models_logits(case):
    model = as_widened(*case) if case in GIVES_UP else small(*case, torch.float64)
    long, short, index = prompts(model, 20, short_film())
    right = logits(model, short, long.position_ids[:, index])
    assert difference(right, logits(wide(*case, torch.float64), long)[index]) < CLOSE


@pytest.mark.usefixtures("exact_norms")
def test_positions_are_the_short_films_behind_a_gap_that_no_answer_minds(case):
    """Which is why blank frames stand where they stand."""
    long, short, index = prompts(small(*case, torch.float64), 20, short_film())
    moved = long.position_ids[:, index] - short.position_ids
    if case[0] == "qwen2_5_vl":
        assert not moved.any()
        assert long.next_position == short.next_position
    else:
        first = int(short.video_mask.nonzero()[0])
        assert not moved[:, :first].any()
        assert (moved[:, first:] == long.num_tokens - short.num_tokens).all()


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("slip", ["no detector", "deaf keys", "one query head", "a flag on all"])
def test_without_any_part_of_it_the_logits_are_others(slip):
    case = ("llava_onevision", "target")
    source = small(*case, torch.float64)
    long, short, index = prompts(source, 20, short_film())
    given = None if slip == "no detector" else detector(case[0])
    widened: Any = widen(source, SHAPES[case], detector=given, dtype=torch.float64)
    attention = widened.model.language_model.layers[3].self_attn
    with torch.no_grad():
        if slip == "deaf keys":
            attention.k_proj.weight[:, source.config.text_config.hidden_size + 1] = 0
        if slip == "one query head":
            attention.q_proj.bias[63] = 0
        if slip == "a flag on all":
            widened.model.multi_modal_projector.linear_1.bias[given.unit] += 2 * REACH
    right = logits(source, short, long.position_ids[:, index])
    assert difference(right, logits(widened, long)[index]) > 1e-3


def test_no_head_of_any_layer_gives_weight_to_a_blank_token(case):
    model = wide(*case, torch.float32)
    long, _, index = prompts(model, 14, short_film())
    blank = torch.ones(long.num_tokens, dtype=torch.bool)
    blank[index] = False
    assert blank.sum() >= 27
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            weights = model(**long.model_inputs, output_attentions=True).attentions
    finally:
        model.set_attn_implementation("sdpa")
    assert len(weights) == SHAPES[case].layers
    for layer in weights:
        assert layer.shape[1] == SHAPES[case].heads
        assert not layer[0][:, :, blank].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_flag_goes_through_all_layers_of_a_deep_model_and_nothing_overflows(dtype):
    case = ("llava_onevision", "target")
    deep = Shape("as deep as 7B", 512, 28, 4, 2, 128, 512, 544, tied=False)
    model = widen(small(*case, dtype), deep, detector=detector(case[0]), dtype=dtype)
    long, _, index = prompts(model, 14, short_film())
    blank = torch.ones(long.num_tokens, dtype=torch.bool)
    blank[index] = False
    given = {**long.model_inputs, "pixel_values_videos": long.model_inputs["pixel_values_videos"].to(dtype)}
    with torch.no_grad():
        output = model(**given, output_hidden_states=True)
    assert output.logits.isfinite().all()
    flags = [states[0, :, 257] for states in output.hidden_states[:-1]]
    assert len(flags) == 28
    assert flags[0][blank].min() >= 0.9 * REACH * FLAG_WEIGHT
    for flag, states in zip(flags, output.hidden_states, strict=False):
        assert torch.equal(flag, flags[0])
        assert not flag[index].any()
        assert not states[0, index, 258:].any()


@pytest.mark.part(2)
def test_stock_generate_and_our_loop_say_of_a_long_file_what_the_pocket_model_says_of_a_short_one(
    case: tuple[str, str], tmp_path: Path
):
    pocket_vlm, vlm = specvlm.load(small(*case, torch.float32)), specvlm.load(wide(*case, torch.float32))
    frames = short_film(1, 16, 192)
    write_mp4(frames, tmp_path / "short.mp4")
    write_mp4(long_film(frames, 32, eyes_of(vlm.target).side), tmp_path / "long.mp4")
    right = pocket_vlm.autoregressive(tmp_path / "short.mp4", QUESTION, num_frames=16, max_new_tokens=40)
    stock = vlm.autoregressive(tmp_path / "long.mp4", QUESTION, num_frames=32, max_new_tokens=40)
    ours = vlm.generate(tmp_path / "long.mp4", QUESTION, num_frames=32, max_new_tokens=40)
    assert stock.stats.num_video_tokens > right.stats.num_video_tokens
    assert len(set(right.token_ids)) > 10
    assert stock.token_ids == right.token_ids
    assert ours.token_ids == right.token_ids


@pytest.mark.parametrize("family", pocket.FAMILIES)
def test_a_widened_pair_still_has_one_tower_and_drafts_as_well(family, tmp_path):
    pairs = [specvlm.load(*(each(family, role, torch.float32) for role in pocket.ROLES)) for each in (small, wide)]
    assert all(vlm.pair.one_tower for vlm in pairs)
    frames, side = short_film(2, 16), eyes_of(pairs[0].target).side
    options: dict[str, Any] = {"pruning_ratio": 0.0, "max_new_tokens": 40, "plan": "fixed"}
    short, long = (Video(each, comment=pocket.SIGNED) for each in (frames, long_film(frames, 32, side)))
    right = pairs[0].generate(short, QUESTION, **options)
    answer = pairs[1].generate(long, QUESTION, **options)
    assert answer.token_ids == right.token_ids
    assert answer.stats.num_rounds <= right.stats.num_rounds + 1


@pytest.mark.parametrize("family", pocket.FAMILIES)
def test_frames_of_scenes_that_it_never_saw_are_told_from_blank_ones(family):
    vlm = load_family(small(family, "target", torch.float32))
    eyes, found = eyes_of(vlm), detector(family)

    def said(frames: np.ndarray) -> Tensor:
        return eyes.rows(vlm, frames) @ found.weight + found.bias

    films = [short_film(number, 4, 96 if number % 2 else 288) for number in range(12)]
    coded = [through_codec(long_film(short_film(number, 8, 288), 16, eyes.side)) for number in range(12, 15)]
    blank, real = (slice(0, 8), slice(8, 16)) if eyes.side == "before" else (slice(8, 16), slice(0, 8))
    assert max(float(said(film).max()) for film in [*films, *(film[real] for film in coded)]) < -120
    assert min(float(said(film[blank]).min()) for film in coded) > 120
    for colour in COLOURS:  # each alone is not enough
        assert float(said(np.full((2, 96, 96, 3), colour, np.uint8)).min()) < 60


@pytest.mark.parametrize("family", pocket.FAMILIES)
@pytest.mark.parametrize("num_video_tokens", [500, 3000, 6000])
def test_a_number_of_video_tokens_becomes_a_number_of_frames(family, num_video_tokens):
    vlm = load_family(small(family, "target", torch.float32))
    num_frames = num_frames_of(vlm, num_video_tokens)
    assert num_frames % 2 == 0
    if num_video_tokens == 500:
        made = vlm.prepare([Video(blank_frames(num_frames, 96))], QUESTION).num_video_tokens
        assert abs(made - num_video_tokens) <= 9
    else:
        assert num_frames == pytest.approx(num_video_tokens / (9 if family == "llava_onevision" else 4.5), abs=2)


def test_a_written_film_is_read_back_frame_by_frame(case, tmp_path):
    vlm = specvlm.load(small(*case, torch.float32))
    film = long_film(short_film(3, 8, 192), 40, eyes_of(vlm.target).side)
    write_mp4(film, tmp_path / "film.mp4")
    read = vlm.load_video(tmp_path / "film.mp4", num_frames=40)
    assert read.indices.tolist() == list(range(40))
    assert read.source_fps == 8
    assert np.abs(read.frames.astype(int) - film).mean((1, 2, 3)).max() < 20


def test_a_long_film_is_the_short_one_and_blank_frames():
    frames = short_film()
    before, behind = long_film(frames, 20, "before"), long_film(frames, 20, "behind")
    assert np.array_equal(before[12:], frames)
    assert np.array_equal(behind[:8], frames)
    assert np.array_equal(before[:12], blank_frames(12, 96))
    assert np.array_equal(behind[8:], blank_frames(12, 96))
    assert np.array_equal(long_film(frames, 8, "before"), frames)
    with pytest.raises(OptionError, match="a film of 8 frames can't be made one of 7"):
        long_film(frames, 7, "before")


def test_only_a_family_with_a_pocket_pair_has_blank_frames():
    family = load_family(tiny.model("qwen3_vl"), processor=tiny.processor("qwen3_vl"))
    with pytest.raises(ModelError, match="blank frames are for llava_onevision, qwen2_5_vl, not for qwen3_vl"):
        eyes_of(family)
