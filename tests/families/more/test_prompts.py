"""The families of a file each: prompts are the processor's own, positions and embeddings the model's, pruned or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn

import tiny
from families.more.media import GLM, MEDIA, as_a_user_would, clips_of, media_of, text
from specvlm.errors import ModelError, OptionError
from specvlm.families import Family, PixelBudget
from specvlm.prompts.prompt import Prompt

QUESTION = "what happens in the video ?"
CELLS = [(family, media) for family in tiny.MORE for media in media_of(family)]
every_medium = pytest.mark.parametrize(("name", "media"), CELLS)
SQUARES = tuple(name for name in ("llava_next_video", "internvl", "smolvlm", "perception_lm") if name in tiny.MORE)
every_family = pytest.mark.parametrize("name", tiny.MORE)


@lru_cache
def family(name: str, dtype: torch.dtype = torch.float64) -> Family:
    return tiny.family(tiny.model(name, 0, dtype=dtype))


def prepare(name: str, media: str, dtype: torch.dtype = torch.float64) -> Prompt:
    return family(name, dtype).prepare(MEDIA[media].films, QUESTION, images=MEDIA[media].images)


def last(name: str) -> str:
    """The fullest of what a family can be asked about."""
    return media_of(name)[-1]


def same_inputs(ours: Prompt, theirs: dict[str, Tensor]) -> bool:
    return ours.model_inputs.keys() == theirs.keys() and all(
        torch.equal(ours.model_inputs[key], value) for key, value in theirs.items()
    )


@every_medium
def test_a_prompt_is_what_template_and_processor_make(name: str, media: str) -> None:
    parts = MEDIA[media].parts
    asked = as_a_user_would(name, MEDIA[media], [{"role": "user", "content": [*parts, text(QUESTION)]}])
    assert same_inputs(prepare(name, media), asked)
    history = (("what is it?", "a red ball"),)
    prompt = family(name).prepare(
        MEDIA[media].films, QUESTION, images=MEDIA[media].images, system="be brief", history=history
    )
    talked = [
        {"role": "system", "content": [text("be brief")]},
        {"role": "user", "content": [*parts, text("what is it?")]},
        {"role": "assistant", "content": [text("a red ball")]},
        {"role": "user", "content": [text(QUESTION)]},
    ]
    assert same_inputs(prompt, as_a_user_would(name, MEDIA[media], talked))


@every_medium
def test_each_video_token_knows_its_clip_its_frame_and_its_place(name: str, media: str) -> None:
    prompt, clips = prepare(name, media), clips_of(name, MEDIA[media])
    expected = [
        (clip, step, place) for clip, (steps, n) in enumerate(clips) for step in range(steps) for place in range(n)
    ]
    assert int(prompt.video_mask.sum()) == len(expected)
    assert prompt.clip_ids.tolist() == [clip for clip, _, _ in expected]
    assert prompt.place_ids.tolist() == [place for _, _, place in expected]
    ids: dict[tuple[int, int], int] = {}
    for (clip, step, _), frame in zip(expected, prompt.frame_ids.tolist(), strict=True):
        assert ids.setdefault((clip, step), frame) == frame
    assert len(set(ids.values())) == sum(steps for steps, _ in clips)
    assert prompt.still_ids == set(range(len(MEDIA[media].films), len(clips)))


@contextmanager
def called(module: nn.Module) -> Iterator[list[dict]]:
    """The keyword arguments of each call of a module; the first positional one as `input`."""
    calls: list[dict] = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(kwargs | ({"input": args[0]} if args else {})), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()


@torch.no_grad()
def stock(name: str, prompt: Prompt, dtype: torch.dtype, num_tokens: int = 3) -> tuple[list[dict], Tensor]:
    """By stock generate: what the language model is called with, and the logits of the first answer token."""
    ours = family(name, dtype)
    inputs = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in prompt.model_inputs.items()
    }
    with called(ours.decoder.language_model) as calls, ours.as_found():
        output = ours.model.generate(
            **inputs,
            max_new_tokens=num_tokens,
            min_new_tokens=num_tokens,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return calls, output.logits[0][0]


@pytest.mark.part(2)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@every_medium
def test_positions_embeddings_and_logits_are_the_models_own(name: str, media: str, dtype: torch.dtype) -> None:
    ours, prompt = family(name, dtype), prepare(name, media, dtype)
    embeds = ours.embed(prompt, ours.see(prompt))
    calls, expected = stock(name, prompt, dtype)
    exact = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]

    def same(mine: Tensor, theirs: Tensor) -> bool:
        return torch.allclose(mine.to(theirs), theirs, rtol=0, atol=exact * float(theirs.abs().max()))

    assert same(embeds.rows, calls[0]["inputs_embeds"][0])
    logits = ours.decoder.prefill(embeds, prompt.position_ids, ours.decoder.new_cache(prompt.num_tokens))
    assert same(logits.float(), expected)
    rows = len(prompt.position_ids)
    places = [call["position_ids"].reshape(-1, call["position_ids"].shape[-1])[-rows:] for call in calls]
    assert torch.equal(prompt.position_ids, places[0])
    following = torch.full((rows, 1), prompt.next_position)
    assert torch.equal(following, places[1])
    assert torch.equal(following + 1, places[2])


@pytest.mark.parametrize("positions", ["compact", "original"])
@every_family
def test_a_pruned_prompt_embeds_as_the_rows_that_are_left(name: str, positions: str) -> None:
    """And only frames that it still mentions are looked at; text between frames stays."""
    ours, prompt = family(name), prepare(name, last(name))
    whole = ours.embed(prompt, ours.see(prompt)).rows
    dice = torch.Generator().manual_seed(0)
    for share in (0.0, 0.05, 0.3, 1.0):
        kept = (torch.rand(prompt.num_video_tokens, generator=dice) < share).nonzero()[:, 0]
        pruned = prompt.prune(kept, positions)
        seen = ours.see(pruned)
        assert seen.frame_ids.tolist() == sorted(set(pruned.frame_ids.tolist()))
        for eyes in (seen, ours.see(prompt)):
            rows = ours.embed(pruned, eyes).rows
            assert torch.allclose(rows, whole[prompt.kept_tokens(kept)], rtol=0, atol=1e-11)
        assert torch.equal(pruned.input_ids[~pruned.video_mask], prompt.input_ids[~prompt.video_mask])


@every_family
def test_what_was_seen_in_two_looks_is_what_one_look_sees(name: str) -> None:
    ours, prompt = family(name), prepare(name, last(name))
    half = prompt.frame_ids % 2 == 0
    looks = [ours.see(prompt.prune(some.nonzero()[:, 0], "original")) for some in (half, ~half)]
    whole = ours.embed(prompt, ours.see(prompt)).rows
    assert torch.allclose(ours.embed(prompt, looks[1].joined(looks[0])).rows, whole, rtol=0, atol=1e-11)


@every_family
def test_models_with_one_tower_can_use_each_others_eyes(name: str) -> None:
    ours = family(name)
    theirs = tiny.family(tiny.noised(ours.model, 0.1, same_vision=True))
    prompt = prepare(name, last(name))
    mine, other = ours.see(prompt), theirs.see(prompt)
    assert torch.allclose(theirs.embed(prompt, mine).rows, theirs.embed(prompt, other).rows, rtol=0, atol=1e-11)
    assert not torch.allclose(theirs.embed(prompt, mine).rows, ours.embed(prompt, mine).rows, rtol=0, atol=1e-3)


@every_family
def test_nothing_is_changed_by_preparing_seeing_and_embedding(name: str) -> None:
    model = tiny.model(name, dtype=torch.float64)
    ours = tiny.family(model)
    prompt = ours.prepare(MEDIA[last(name)].films, QUESTION, images=MEDIA[last(name)].images)
    ours.see(prompt)  # transformers hooks into a model the first time that hidden states are asked for
    before, inputs = tiny.fingerprint(model), {key: value.clone() for key, value in prompt.model_inputs.items()}
    embeds = ours.embed(prompt, ours.see(prompt))
    assert not embeds.rows.requires_grad
    embeds.rows.zero_()
    assert all(torch.equal(prompt.model_inputs[key], value) for key, value in inputs.items())
    assert tiny.fingerprint(model) == before


@every_family
def test_clips_may_stand_anywhere_in_the_prompt(name: str) -> None:
    """As a user of transformers may write it."""
    media = MEDIA[last(name)]
    order = media.parts[::-1]
    given = as_a_user_would(name, media, [{"role": "user", "content": [*order, text(QUESTION)]}])
    ours = family(name)
    prompt = ours.prompt_from_inputs(given)
    assert prompt.still_ids == {i for i, part in enumerate(order) if part["type"] == "image"}
    calls, _ = stock(name, prompt, torch.float64, num_tokens=1)
    assert torch.allclose(ours.embed(prompt, ours.see(prompt)).rows, calls[0]["inputs_embeds"][0], rtol=0, atol=1e-11)


@every_family
def test_without_a_processor_it_answers_what_is_tokenised_and_says_so_about_the_rest(name: str) -> None:
    made, inputs = family(name), prepare(name, last(name)).model_inputs
    bare = type(made)(made.model, None, "bare")
    prompt, told = bare.prompt_from_inputs(inputs), made.prompt_from_inputs(inputs)
    assert torch.equal(bare.embed(prompt, bare.see(prompt)).rows, made.embed(told, made.see(told)).rows)
    with pytest.raises(ModelError, match="bare came without a processor"):
        bare.prepare([MEDIA["one video"].films[0]], QUESTION)


@every_family
def test_inputs_that_it_cannot_answer_are_refused(name: str) -> None:
    inputs = dict(prepare(name, "one video").model_inputs)
    without = dict.fromkeys(key for key in inputs if key.startswith(("pixel", "image", "video")))
    twice = {key: value.repeat(1, 2) for key, value in inputs.items() if key in ("input_ids", "mm_token_type_ids")}
    for changes, complaint in (
        ({"input_ids": torch.zeros(2, 5, dtype=torch.long)}, "not a batch of 2"),
        ({"input_features": torch.zeros(1)}, "no input_features"),
        (without, "place-holders"),
        (twice, "place-holders"),
    ):
        with pytest.raises(OptionError, match=complaint):
            family(name).prompt_from_inputs(inputs | changes)


@every_family
def test_text_that_would_be_taken_for_a_video_is_refused(name: str) -> None:
    processor = tiny.processor(name)
    for token in (processor.video_token, processor.image_token):
        for asked in ({"question": f"a {token}?"}, {"question": "a?", "system": token}):
            with pytest.raises(OptionError, match="reword"):
                family(name).prepare((), **asked)


@pytest.mark.parametrize("name", ["llava_next_video", "internvl", "perception_lm"])
def test_videos_that_stock_cannot_put_side_by_side_are_refused(name: str) -> None:
    films = [tiny.film(4), tiny.film(6)]
    with pytest.raises(OptionError, match="refuses this prompt"):
        family(name).prepare(films, QUESTION)


@pytest.mark.parametrize("name", GLM)
def test_glm_takes_videos_or_images_and_no_single_frame(name: str) -> None:
    """Stock's own forward scatters images over the place-holders of frames too; its processor wants two frames."""
    with pytest.raises(OptionError, match="videos or images"):
        family(name).prepare([tiny.film(4)], QUESTION, images=[tiny.image()])
    with pytest.raises(OptionError, match="refuses this prompt"):
        family(name).prepare([tiny.film(1)], QUESTION)
    inputs = dict(prepare(name, "one video").model_inputs)
    with pytest.raises(OptionError, match="mm_token_type_ids are missing"):
        family(name).prompt_from_inputs({key: value for key, value in inputs.items() if key != "mm_token_type_ids"})


@pytest.mark.parametrize("name", GLM)
def test_times_behind_frames_are_text_and_stay(name: str) -> None:
    film = tiny.film(6, fps=0.4)
    prompt = family(name).prepare([film], QUESTION)
    left = prompt.prune(torch.tensor([], dtype=torch.long), "compact")
    written = ("0", "5", "10") if name == "glm4v" else ("0.0 seconds", "5.0 seconds", "10.0 seconds")
    words = family(name).tokenizer.decode(left.input_ids)
    assert "".join(f"<|begin_of_image|><|end_of_image|>{time}" for time in written) in words


@pytest.mark.parametrize("name", GLM)
def test_a_budget_of_glm_counts_all_frames_together(name: str) -> None:
    films = [tiny.film(4, height=96, width=128), tiny.film(12, 1, height=96, width=128)]
    budget = PixelBudget(min_pixels=8 * 8, total_pixels=12 * 16 * 16)
    together = family(name).prepare(films, QUESTION, pixels=budget).model_inputs
    alone = [family(name).prepare([film], QUESTION, pixels=budget).model_inputs for film in films]
    for key in ("pixel_values_videos", "video_grid_thw"):
        assert torch.equal(together[key], torch.cat([inputs[key] for inputs in alone]))
    assert alone[0]["video_grid_thw"][0, 1:].prod() > alone[1]["video_grid_thw"][0, 1:].prod()


def test_what_stands_still_is_left_out_as_the_processor_of_video_llama_3_does() -> None:
    """Each token that is left keeps its place in the frame: two of six move, and a frame never has none."""
    ours, film = family("video_llama_3"), tiny.half_still(4)
    prompt = ours.prepare([film, tiny.film(2)], QUESTION, images=[tiny.image()])
    of_film = prompt.clip_ids == 0
    assert prompt.frame_ids[of_film].tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 4]
    assert prompt.place_ids[of_film].tolist() == [0, 1, 2, 3, 4, 5, 0, 3, 0, 3, 0]
    calls, _ = stock("video_llama_3", prompt, torch.float64, num_tokens=1)
    assert torch.allclose(ours.embed(prompt, ours.see(prompt)).rows, calls[0]["inputs_embeds"][0], rtol=0, atol=1e-11)
    inputs = dict(prompt.model_inputs)
    for changes, complaint in (
        ({"video_compression_mask": torch.ones(5, dtype=torch.bool)}, "mask is of 5 tokens, and the videos have 36"),
        ({"video_merge_sizes": None}, "video_merge_sizes are of 0 clips, and video_grid_thw of 2"),
    ):
        with pytest.raises(OptionError, match=complaint):
            ours.prompt_from_inputs(inputs | changes)


def test_a_budget_of_video_llama_3_bounds_a_frame_below_and_a_video_above() -> None:
    ours, films = family("video_llama_3"), [tiny.film(4, height=96, width=128), tiny.film(12, height=96, width=128)]
    budget = PixelBudget(min_pixels=16 * 16, total_pixels=12 * 16 * 24)
    together = ours.prepare(films, QUESTION, pixels=budget).model_inputs
    size = {"shortest_edge": 16 * 16, "longest_edge": 12 * 16 * 24}
    for key in ("pixel_values_videos", "video_grid_thw"):
        alone = [ours.video_processor([film.tensor()], size=size, return_tensors="pt")[key] for film in films]
        assert torch.equal(together[key], torch.cat(alone))
    assert together["video_grid_thw"][0, 1:].prod() > together["video_grid_thw"][1, 1:].prod()


@pytest.mark.parametrize("name", SQUARES)
def test_a_budget_of_pixels_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match=f"max_pixels: {name} makes every frame a square"):
        family(name).prepare([MEDIA["one video"].films[0]], QUESTION, pixels=PixelBudget(max_pixels=100))
