"""The Qwen-VL families: prompts are the processor's own, positions and embeddings the model's own, pruned or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

import tiny
from specvlm.engine.decoder import Embeds
from specvlm.errors import ModelError, OptionError
from specvlm.families import Family, PixelBudget
from specvlm.families.qwen import qwen_vl as module
from specvlm.prompts.lead import Slot
from specvlm.prompts.prompt import Prompt
from specvlm.video import Video

QUESTION = "what happens in the video ?"
HISTORY = (("what is it?", "a red ball"), ("where?", "to the left"))
DEEP = ("qwen3_vl", "qwen3_vl_moe")
every_family = pytest.mark.parametrize("name", [*tiny.QWEN, *tiny.RECURRENT])


@dataclass(frozen=True)
class Media:
    """What stands in front of the question, and how many tokens each clip has in how many frames."""

    films: tuple[Video, ...] = ()
    images: tuple[np.ndarray, ...] = ()
    clips: tuple[tuple[int, int], ...] = ()


FILM, SLOW, TALL = tiny.film(6), tiny.film(9, 2, fps=0.3), tiny.film(4, 1, fps=1.3, height=32)
MEDIA = {
    "text": Media(),
    "one video": Media((FILM,), (), ((3, 6),)),
    "an odd number of frames": Media((tiny.film(5),), (), ((3, 6),)),
    "a slow video": Media((SLOW,), (), ((5, 6),)),
    "two videos": Media((FILM, TALL), (), ((3, 6), (2, 12))),
    "an image": Media((), (tiny.image(),), ((1, 6),)),
    "videos and images": Media((TALL, FILM), (tiny.image(), tiny.image(1, 16, 32)), ((2, 12), (3, 6), (1, 6), (1, 8))),
}
every_medium = pytest.mark.parametrize("media", MEDIA)


@lru_cache
def family(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> Family:
    return tiny.family(tiny.model(name, seed, dtype=dtype))


def prepare(name: str, media: str, dtype: torch.dtype = torch.float64) -> Prompt:
    return family(name, dtype).prepare(MEDIA[media].films, QUESTION, images=MEDIA[media].images)


def text(message: str) -> dict:
    return {"type": "text", "text": message}


def as_a_user_would(name: str, media: Media, conversation: list[dict]) -> dict[str, Tensor]:
    """What transformers' documentation says: chat template, then processor, which is told the frames' times."""
    processor = tiny.processor(name)
    prompt = processor.apply_chat_template(conversation, add_generation_prompt=True)
    more: dict = {}
    if media.films:
        more["videos"] = [torch.tensor(film.frames.copy()).permute(0, 3, 1, 2) for film in media.films]
        more["video_metadata"] = [
            {
                "total_num_frames": len(film.frames),
                "fps": film.source_fps,
                "frames_indices": list(range(len(film.frames))),
                "duration": film.duration,
            }
            for film in media.films
        ]
    if media.images:
        more["images"] = [torch.tensor(image).permute(2, 0, 1) for image in media.images]
    return dict(processor(text=[prompt], do_sample_frames=False, return_tensors="pt", **more))


def conversations(media: Media) -> dict[str, tuple[dict, list[dict]]]:
    """By name: options for `prepare`, and the messages that they stand for."""
    parts = [{"type": "video"}] * len(media.films) + [{"type": "image"}] * len(media.images)
    mixed = [each for part in reversed(parts) for each in (text("look at"), part)]
    return {
        "text in between": (
            {"lead": tuple(Slot(part["type"]) if "text" not in part else part["text"] for part in mixed)},
            [{"role": "user", "content": [*mixed, text(QUESTION)]}],
        ),
        "a question": ({}, [{"role": "user", "content": [*parts, text(QUESTION)]}]),
        "a conversation": (
            {"system": "be brief", "history": HISTORY},
            [
                {"role": "system", "content": [text("be brief")]},
                {"role": "user", "content": [*parts, text("what is it?")]},
                {"role": "assistant", "content": [text("a red ball")]},
                {"role": "user", "content": [text("where?")]},
                {"role": "assistant", "content": [text("to the left")]},
                {"role": "user", "content": [text(QUESTION)]},
            ],
        ),
    }


@pytest.mark.parametrize("conversation", ["a question", "text in between", "a conversation"])
@every_medium
@every_family
def test_a_prompt_is_what_template_and_processor_make(name, media, conversation):
    options, messages = conversations(MEDIA[media])[conversation]
    prompt = family(name).prepare(MEDIA[media].films, QUESTION, images=MEDIA[media].images, **options)
    expected = as_a_user_would(name, MEDIA[media], messages)
    expected.pop("video_metadata", None)
    assert prompt.model_inputs.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(torch.as_tensor(prompt.model_inputs[key]), torch.as_tensor(value)), key
    assert torch.equal(prompt.input_ids, expected["input_ids"][0])


@every_medium
@every_family
def test_each_video_token_knows_its_clip_its_frame_and_its_place(name, media):
    prompt, clips = prepare(name, media), MEDIA[media].clips
    config = family(name).model.config
    is_token = (prompt.input_ids == config.video_token_id) | (prompt.input_ids == config.image_token_id)
    assert torch.equal(prompt.video_mask, is_token)
    expected = [
        (clip, step, place) for clip, (steps, n) in enumerate(clips) for step in range(steps) for place in range(n)
    ]
    assert prompt.clip_ids.tolist() == [clip for clip, _, _ in expected]
    assert prompt.place_ids.tolist() == [place for _, _, place in expected]
    frames = list(dict.fromkeys((clip, step) for clip, step, _ in expected))
    ids = {}
    for (clip, step, _), frame in zip(expected, prompt.frame_ids.tolist(), strict=True):
        assert ids.setdefault((clip, step), frame) == frame
    assert len(set(ids.values())) == len(frames)
    num_films = len(MEDIA[media].films)
    assert prompt.still_ids == set(range(num_films, len(clips)))


@contextmanager
def called(model: torch.nn.Module) -> Iterator[list[dict]]:
    """The keyword arguments of each call of a module; the first positional one as `input`."""
    calls: list[dict] = []
    handle = model.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(kwargs | ({"input": args[0]} if args else {})), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()


@torch.no_grad()
def stock(name: str, prompt: Prompt, dtype: torch.dtype, num_tokens: int = 3) -> tuple[list[dict], Tensor]:
    """By stock generate: what the language model is called with, and the logits of the first answer token."""
    model = family(name, dtype).model
    inputs = {
        key: value.to(dtype) if key.startswith("pixel_values") else value for key, value in prompt.model_inputs.items()
    }
    with called(model.model.language_model) as calls:
        output = model.generate(
            **inputs,
            max_new_tokens=num_tokens,
            min_new_tokens=num_tokens,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return calls, output.logits[0][0]


@every_medium
@every_family
def test_positions_are_those_that_stock_generate_uses_before_and_in_the_answer(name, media):
    """The answer stands behind the prompt's last token, also where a slow video's last frame stands further on."""
    prompt = prepare(name, media)
    calls, _ = stock(name, prompt, torch.float64)
    rows = [call["position_ids"][-3:, 0] for call in calls]
    assert torch.equal(prompt.position_ids, rows[0])
    following = torch.as_tensor(prompt.next_position).expand(3)
    assert torch.equal(following, rows[1][:, 0])
    assert torch.equal(following + 1, rows[2][:, 0])


@pytest.mark.part(2)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@every_medium
@every_family
def test_embeddings_and_logits_are_the_models_own(name, media, dtype):
    ours, prompt = family(name, dtype), prepare(name, media, dtype)
    embeds = ours.embed(prompt, ours.see(prompt))
    calls, expected_logits = stock(name, prompt, dtype, num_tokens=1)
    exact = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]

    def same(mine: Tensor, theirs: Tensor) -> bool:
        return torch.allclose(mine.to(theirs), theirs, rtol=0, atol=exact * float(theirs.abs().max()))

    assert same(embeds.rows, calls[0]["inputs_embeds"][0])
    deeper = calls[0].get("deepstack_visual_embeds")
    assert (embeds.deep is None) == (deeper is None)
    assert (name in DEEP and media != "text") == (deeper is not None)
    if embeds.deep is not None and deeper is not None:
        assert torch.equal(embeds.deep_mask, calls[0]["visual_pos_masks"][0])
        assert torch.equal(embeds.deep_mask, prompt.video_mask)
        assert len(deeper) == len(embeds.deep) == 2
        assert all(same(mine, theirs) for mine, theirs in zip(embeds.deep, deeper, strict=True))
    logits = ours.decoder.prefill(embeds, prompt.position_ids, ours.decoder.new_cache(prompt.num_tokens))
    assert same(logits.float(), expected_logits)


@contextmanager
def encoded(family: Family) -> Iterator[list[int]]:
    """The number of patches in each call of the vision tower."""
    sizes: list[int] = []
    handle = family.model.model.visual.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
    )
    try:
        yield sizes
    finally:
        handle.remove()


def close(
    mine: Embeds, theirs: Embeds, index: Tensor | slice = slice(None), video: Tensor | slice = slice(None)
) -> bool:
    """The rows `index` of `theirs`, and of its deeper features the tokens `video`."""
    if not torch.allclose(mine.rows, theirs.rows[index], rtol=0, atol=1e-11):
        return False
    if theirs.deep is None or mine.deep is None:
        return (theirs.deep is None or not theirs.deep[:, video].numel()) and mine.deep is None
    return torch.allclose(mine.deep, theirs.deep[:, video], rtol=0, atol=1e-11)


@pytest.mark.parametrize("batch", [1, 24, 50, 72, 10000])
@every_family
def test_the_tower_sees_a_bounded_number_of_patches_at_once(monkeypatch, name, batch):
    """To whole frames: one of this prompt has 24 patches, or 48."""
    ours, prompt = family(name), prepare(name, "videos and images")
    whole = ours.embed(prompt, ours.see(prompt))
    monkeypatch.setattr(module, "PATCHES_PER_BATCH", batch)
    with encoded(ours) as sizes:
        seen = ours.see(prompt)
    assert close(ours.embed(prompt, seen), whole)
    assert sum(sizes) == sum(steps * 4 * n for steps, n in MEDIA["videos and images"].clips)
    assert max(sizes) < batch + 48


@hypothesis_settings(max_examples=25)
@given(st.data(), st.sampled_from(["compact", "original"]), st.sampled_from(tiny.QWEN))
def test_a_pruned_prompt_embeds_as_the_rows_that_are_left(data, positions, name):
    """And only frames that it still mentions go through the tower; text, and so every timestamp, stays."""
    ours, prompt = family(name), prepare(name, "videos and images")
    keeps = data.draw(st.lists(st.booleans(), min_size=prompt.num_video_tokens, max_size=prompt.num_video_tokens))
    kept = torch.tensor(keeps).nonzero()[:, 0]
    pruned = prompt.prune(kept, positions)
    index = prompt.kept_tokens(kept)
    whole = ours.embed(prompt, ours.see(prompt))
    with encoded(ours) as sizes:
        seen = ours.see(pruned)
    frames = {int(frame): 0 for frame in pruned.frame_ids}
    for frame in prompt.frame_ids.tolist():
        if frame in frames:
            frames[frame] += 4
    assert sum(sizes) == sum(frames.values())
    assert seen.frame_ids.tolist() == sorted(frames)
    for eyes in (seen, ours.see(prompt)):
        assert close(ours.embed(pruned, eyes), whole, index, kept)
    assert torch.equal(pruned.input_ids[~pruned.video_mask], prompt.input_ids[~prompt.video_mask])
    assert torch.equal(pruned.clip_ids, prompt.clip_ids[kept])
    if positions == "original":
        assert torch.equal(pruned.position_ids, prompt.position_ids[:, index])
        assert pruned.next_position == prompt.next_position


@every_family
def test_models_with_one_tower_can_use_each_others_eyes(name):
    """Also where the language models, and what lies between, differ."""
    ours = family(name)
    theirs = tiny.family(tiny.noised(ours.model, 0.1, same_vision=True))
    prompt = prepare(name, "videos and images")
    assert close(theirs.embed(prompt, ours.see(prompt)), theirs.embed(prompt, theirs.see(prompt)))
    assert not close(theirs.embed(prompt, ours.see(prompt)), ours.embed(prompt, ours.see(prompt)))


@every_family
def test_nothing_is_changed_by_preparing_seeing_and_embedding(name):
    model = tiny.model(name, dtype=torch.float64)
    model.model.rope_deltas = torch.tensor([[5]])
    ours, before = tiny.family(model), tiny.fingerprint(model)
    prompt = ours.prepare([FILM], QUESTION, images=[tiny.image()])
    inputs = {key: value.clone() for key, value in prompt.model_inputs.items()}
    embeds = ours.embed(prompt, ours.see(prompt))
    assert not embeds.rows.requires_grad
    embeds.rows.zero_()
    assert all(torch.equal(prompt.model_inputs[key], value) for key, value in inputs.items())
    assert tiny.fingerprint(model) == before


PLACEHOLDERS = ("<|video_pad|>", "<|image_pad|>")


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("what is {} ?", {}),
        ("what?", {"system": "{}"}),
        ("what?", {"history": (("where is {}?", "there"),)}),
        ("what?", {"history": (("where?", "in the {}"),)}),
    ],
)
@every_family
def test_text_that_would_be_taken_for_a_video_is_refused(name, question, options, placeholder):
    def put(value):
        return value.format(placeholder) if isinstance(value, str) else tuple(map(put, value))

    for films in ([FILM], []):
        with pytest.raises(OptionError, match="reword"):
            family(name).prepare(films, put(question), **{key: put(value) for key, value in options.items()})


def inputs(name: str, media: str = "videos and images", without: Sequence[str] = (), **changes: Tensor) -> dict:
    given = dict(prepare(name, media).model_inputs) | changes
    return {key: value for key, value in given.items() if key not in without}


@pytest.mark.parametrize(
    ("without", "changes", "complaint"),
    [
        ((), {"input_ids": torch.zeros(2, 5, dtype=torch.long)}, "not a batch of 2"),
        ((), {"input_features": torch.zeros(1)}, "no input_features"),
        (("pixel_values_videos", "video_grid_thw"), {}, "42 video place-holders; its videos need 0"),
        (("pixel_values", "image_grid_thw"), {}, "14 image place-holders; its images need 0"),
        ((), {"video_grid_thw": torch.tensor([[2, 8, 6]])}, "42 video place-holders; its videos need 24"),
        (("mm_token_type_ids",), {}, "mm_token_type_ids are missing"),
    ],
)
@every_family
def test_inputs_that_it_cannot_answer_are_refused(name, without, changes, complaint):
    with pytest.raises(OptionError, match=complaint):
        family(name).prompt_from_inputs(inputs(name, without=without, **changes))


@every_family
def test_without_a_processor_it_answers_what_is_tokenised_and_says_so_about_the_rest(name):
    made = family(name)
    bare = type(made)(made.model, None, "bare")
    prompt = bare.prompt_from_inputs(inputs(name))
    assert close(bare.embed(prompt, bare.see(prompt)), made.embed(prompt, made.see(prompt)))
    with pytest.raises(ModelError, match="bare came without a processor"):
        bare.prepare([FILM], QUESTION)


@every_family
def test_clips_may_stand_anywhere_in_the_prompt(name):
    """An image in front of the video, as a user of transformers may write it."""
    media = MEDIA["videos and images"]
    parts = [{"type": kind} for kind in ("image", "video", "image", "video")]
    given = as_a_user_would(name, media, [{"role": "user", "content": [*parts, text(QUESTION)]}])
    prompt, ours = family(name).prompt_from_inputs(given), family(name)
    assert prompt.still_ids == {0, 2}
    assert prompt.clip_ids.tolist() == [0] * 6 + [1] * 24 + [2] * 8 + [3] * 18
    calls, _ = stock(name, prompt, torch.float64, num_tokens=1)
    assert torch.allclose(ours.embed(prompt, ours.see(prompt)).rows, calls[0]["inputs_embeds"][0], rtol=0, atol=1e-11)
    assert torch.equal(prompt.position_ids, calls[0]["position_ids"][-3:, 0])


SHORT, LONG = tiny.film(4, height=96, width=128), tiny.film(24, 1, height=96, width=128)
BUDGETS = {
    "total": PixelBudget(min_pixels=8 * 8, total_pixels=12 * 16 * 16),
    "most of a frame": PixelBudget(max_pixels=48 * 48),
    "least of a frame": PixelBudget(min_pixels=160 * 160),
    "all": PixelBudget(min_pixels=16 * 16, max_pixels=64 * 64, total_pixels=12 * 48 * 48),
}


@pytest.mark.parametrize("budget", BUDGETS)
@every_family
def test_a_clip_gets_the_pixels_beside_others_that_it_gets_alone(name, budget):
    def inputs(*films: Video, images: Sequence[np.ndarray] = ()) -> dict[str, Tensor]:
        return family(name).prepare(films, QUESTION, images=images, pixels=BUDGETS[budget]).model_inputs

    together = inputs(SHORT, LONG, SHORT, images=[tiny.image()])
    alone = [inputs(film) for film in (SHORT, LONG, SHORT)]
    for key in ("pixel_values_videos", "video_grid_thw"):
        assert torch.equal(together[key], torch.cat([clip[key] for clip in alone])), key
    if "second_per_grid_ts" in together:
        assert together["second_per_grid_ts"].tolist() == [float(clip["second_per_grid_ts"]) for clip in alone]
    video_token = family(name).model.config.video_token_id
    num_tokens = [int((clip["input_ids"] == video_token).sum()) for clip in (together, *alone)]
    assert num_tokens[0] == sum(num_tokens[1:])
    still = family(name).prepare((), QUESTION, images=[tiny.image()]).model_inputs
    assert torch.equal(together["pixel_values"], still["pixel_values"])
    if budget == "total":
        assert alone[0]["video_grid_thw"][0, 1:].prod() > alone[1]["video_grid_thw"][0, 1:].prod()


@pytest.mark.parametrize("budget", BUDGETS)
@every_family
def test_the_pixels_of_a_budget_are_those_of_the_checkpoints_processor(name, budget):
    """Each clip by a call of its own, with the size that transformers and qwen-vl-utils have for such a budget."""
    processor, pixels = tiny.processor(name).video_processor, BUDGETS[budget]
    together = family(name).prepare([SHORT, LONG], QUESTION, pixels=pixels).model_inputs
    expected = []
    for film in (SHORT, LONG):
        num_frames = len(film.frames)
        least = pixels.min_pixels or processor.size["shortest_edge"]
        most = pixels.max_pixels or processor.size["longest_edge"]
        if name in DEEP or name in tiny.RECURRENT:  # counted over all frames of the clip
            least = least * num_frames if pixels.min_pixels else least
            most = min(most * num_frames if pixels.max_pixels else most, pixels.total_pixels or most * num_frames)
        elif pixels.total_pixels:
            most = max(min(most, pixels.total_pixels * processor.temporal_patch_size // num_frames), int(least * 1.05))
        clip = torch.tensor(film.frames.copy()).permute(0, 3, 1, 2)
        size = {"shortest_edge": least, "longest_edge": most}
        expected.append(processor([clip], size=size, do_sample_frames=False, return_tensors="pt"))
    for key in ("pixel_values_videos", "video_grid_thw"):
        assert torch.equal(together[key], torch.cat([clip[key] for clip in expected])), key


@every_family
def test_a_budget_leaves_the_callers_processor_as_it_was(name):
    processor = tiny.processor(name)
    before, of_videos = processor.to_dict(), processor.video_processor
    type(family(name))(tiny.model(name), processor, "tiny").prepare([SHORT, LONG], QUESTION, pixels=BUDGETS["total"])
    assert processor.video_processor is of_videos
    assert processor.to_dict() == before
