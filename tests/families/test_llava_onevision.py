"""LLaVA-OneVision: prompts are the processor's own, embeddings the model's own, pruned or not."""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

import tiny
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.decoder import Embeds
from specvlm.errors import ModelError, OptionError
from specvlm.families import Family
from specvlm.families import llava_onevision as module
from specvlm.families.llava_onevision import LlavaOnevision
from specvlm.pipeline import SpecVLM
from specvlm.prompts.lead import Slot
from specvlm.prompts.prompt import Prompt
from specvlm.video import Video

VIDEO = tiny.video(6)
QUESTION = "what happens in the video ?"
HISTORY = (("what is it?", "a red ball"), ("where?", "to the left"))


@lru_cache
def family(dtype: torch.dtype = torch.float64) -> LlavaOnevision:
    made = tiny.llava(tiny.llava_model(0, dtype=dtype))
    assert isinstance(made, LlavaOnevision)
    return made


def text(message: str) -> dict:
    return {"type": "text", "text": message}


def as_a_user_would(video: Video | None, conversation: list[dict], processor: Any = None) -> dict[str, Tensor]:
    """What transformers' documentation says: chat template, then processor."""
    processor = processor or tiny.llava_processor()
    prompt = processor.apply_chat_template(conversation, add_generation_prompt=True)
    videos = {} if video is None else {"videos": [torch.tensor(video.frames.copy()).permute(0, 3, 1, 2)]}
    return dict(processor(text=[prompt], do_sample_frames=False, return_tensors="pt", **videos))


CONVERSATIONS = {
    "a question": ({}, [{"role": "user", "content": [{"type": "video"}, text(QUESTION)]}]),
    "a system prompt": (
        {"system": "be brief"},
        [
            {"role": "system", "content": [text("be brief")]},
            {"role": "user", "content": [{"type": "video"}, text(QUESTION)]},
        ],
    ),
    "text on both sides": (
        {"lead": ("look at", Slot.VIDEO)},
        [{"role": "user", "content": [text("look at"), {"type": "video"}, text(QUESTION)]}],
    ),
    "a conversation": (
        {"system": "be brief", "history": HISTORY},
        [
            {"role": "system", "content": [text("be brief")]},
            {"role": "user", "content": [{"type": "video"}, text("what is it?")]},
            {"role": "assistant", "content": [text("a red ball")]},
            {"role": "user", "content": [text("where?")]},
            {"role": "assistant", "content": [text("to the left")]},
            {"role": "user", "content": [text(QUESTION)]},
        ],
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("num_frames", [1, 6])
def test_a_prompt_is_what_template_and_processor_make(name, num_frames):
    options, conversation = CONVERSATIONS[name]
    video = tiny.video(num_frames)
    prompt = family().prepare([video], QUESTION, **options)
    expected = as_a_user_would(video, conversation)
    assert prompt.model_inputs.keys() == expected.keys()
    assert all(torch.equal(prompt.model_inputs[key], value) for key, value in expected.items())
    assert torch.equal(prompt.input_ids, expected["input_ids"][0])
    assert prompt.position_ids.tolist() == [list(range(prompt.num_tokens))]


MEDIA_FIRST = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'video') %}<video>{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + part['text'] }}{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As the released checkpoints have it: a video stands in front, wherever it is in the message."""


@pytest.mark.parametrize("template", [None, MEDIA_FIRST])
def test_a_question_may_stand_in_front_as_far_as_the_template_lets_it(template):
    processor = tiny.llava_processor()
    processor.chat_template = template or processor.chat_template
    made = LlavaOnevision(tiny.llava_model(0), processor, "tiny")
    prompt = made.prepare([VIDEO], "", lead=(QUESTION, Slot.VIDEO))
    message = {"role": "user", "content": [text(QUESTION), {"type": "video"}]}
    expected = as_a_user_would(VIDEO, [message], processor)
    assert torch.equal(prompt.input_ids, expected["input_ids"][0])
    behind = made.prepare([VIDEO], QUESTION)
    assert torch.equal(behind.input_ids, prompt.input_ids) == (template is MEDIA_FIRST)
    again = made.reworded(behind, "", lead=(QUESTION, Slot.VIDEO))
    assert again is not None
    assert torch.equal(again.input_ids, prompt.input_ids)


def test_a_lead_has_a_slot_for_each_video():
    with pytest.raises(OptionError, match=r"^lead has 2 slots for 1 videos: it must have one for each$"):
        family().prepare([VIDEO], QUESTION, lead=(Slot.VIDEO, "and", Slot.VIDEO))
    with pytest.raises(OptionError, match="is this model's place-holder"):
        family().prepare([VIDEO], QUESTION, lead=("<video>", Slot.VIDEO))


def test_without_a_video_it_is_text_alone():
    prompt = family().prepare([], QUESTION)
    expected = as_a_user_would(None, [{"role": "user", "content": [text(QUESTION)]}])
    assert torch.equal(prompt.input_ids, expected["input_ids"][0])
    assert prompt.num_video_tokens == prompt.split == 0
    assert not prompt.video_mask.any()
    assert torch.equal(embedded(family(), prompt), family().decoder.embed(prompt.input_ids))


def test_each_video_token_knows_its_frame_and_its_place():
    prompt = family().prepare([VIDEO], QUESTION)
    assert prompt.video_mask.equal(prompt.input_ids == family().model.config.video_token_id)
    assert prompt.frame_ids.tolist() == [frame for frame in range(6) for _ in range(4)] + [5]
    assert prompt.place_ids.tolist() == [0, 1, 2, 3] * 6 + [-1]  # the newline closes the video, and has no place


def embedded(family: Family, prompt: Prompt) -> Tensor:
    return family.embed(prompt, family.see(prompt)).rows


@contextmanager
def called(model: torch.nn.Module):
    """The keyword and positional arguments of each call of a module."""
    calls: list[tuple[tuple, dict]] = []
    handle = model.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def stock_forward(family: Family, inputs: dict) -> tuple[Tensor, Tensor]:
    """By the model's own forward: the embeddings that it hands to its decoder, and the logits of the last position."""
    moved = {key: value.to(family.model.dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    with torch.no_grad(), called(family.model.model.language_model) as calls:
        logits = family.model(**moved).logits[0, -1]
    return calls[0][1]["inputs_embeds"][0], logits


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("num_frames", [None, 1, 6, 20])
def test_embeddings_and_logits_are_the_models_own(dtype, num_frames):
    """20 frames are more than one batch of the vision tower."""
    assert module.FRAMES_PER_BATCH < 20
    ours = family(dtype)
    prompt = ours.prepare([] if num_frames is None else [tiny.video(num_frames)], QUESTION)
    embeds = embedded(ours, prompt)
    expected_embeds, expected_logits = stock_forward(ours, dict(prompt.model_inputs))
    exact = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    assert embeds.dtype == dtype
    assert torch.allclose(embeds, expected_embeds, rtol=0, atol=exact * float(expected_embeds.abs().max()))
    logits = ours.decoder.prefill(Embeds(embeds), prompt.position_ids, ours.decoder.new_cache(prompt.num_tokens))
    assert torch.allclose(logits, expected_logits, rtol=0, atol=exact * float(expected_logits.abs().max()))


@pytest.mark.parametrize("batch", [1, 2, 4, 5, 6, 7])
def test_the_tower_sees_a_bounded_number_of_frames_at_once(monkeypatch, batch):
    prompt = family().prepare([VIDEO], QUESTION)
    whole = embedded(family(), prompt)
    monkeypatch.setattr(module, "FRAMES_PER_BATCH", batch)
    with called(family().model.model.vision_tower) as calls:
        assert torch.allclose(embedded(family(), prompt), whole, rtol=0, atol=1e-12)
    sizes = [len(args[0] if args else kwargs["pixel_values"]) for args, kwargs in calls]
    assert sum(sizes) == 6
    assert max(sizes) <= batch


@hypothesis_settings(max_examples=40)
@given(st.lists(st.booleans(), min_size=25, max_size=25), st.sampled_from(["compact", "original"]))
def test_a_pruned_prompt_embeds_as_the_rows_that_are_left(keeps, positions):
    """And only the frames that it still mentions go through the vision tower."""
    prompt = family().prepare([VIDEO], QUESTION)
    kept = torch.tensor(keeps).nonzero()[:, 0]
    pruned = prompt.prune(kept, positions)
    whole = embedded(family(), prompt)
    with called(family().model.model.vision_tower) as calls:
        embeds = embedded(family(), pruned)
    assert torch.allclose(embeds, whole[prompt.kept_tokens(kept)], rtol=0, atol=1e-12)
    frames = {int(frame) for frame, place in zip(pruned.frame_ids, pruned.place_ids, strict=True) if place >= 0}
    assert sum(len(args[0] if args else kwargs["pixel_values"]) for args, kwargs in calls) == len(frames)


def test_embedding_changes_neither_prompt_nor_weights():
    prompt = family().prepare([VIDEO], QUESTION)
    inputs = {key: value.clone() for key, value in prompt.model_inputs.items()}
    weights = {name: weight.clone() for name, weight in family().model.state_dict().items()}
    embeds = embedded(family(), prompt)
    embeds.zero_()
    assert all(torch.equal(prompt.model_inputs[key], value) for key, value in inputs.items())
    assert all(torch.equal(weight, weights[name]) for name, weight in family().model.state_dict().items())
    assert not embeds.requires_grad


@pytest.mark.parametrize(
    "options",
    [
        {"question": "what is <video> ?"},
        {"question": "what?", "system": "<video>"},
        {"question": "what?", "history": (("where is <video>?", "there"),)},
        {"question": "what?", "history": (("where?", "in the <video>"),)},
    ],
)
@pytest.mark.parametrize("videos", [[VIDEO], []], ids=["video", "text"])
def test_text_that_would_be_taken_for_a_video_is_refused(videos, options):
    with pytest.raises(OptionError, match=r"'<video>'.*reword"):
        family().prepare(videos, **options)


def inputs(**changes: Tensor) -> dict[str, Tensor]:
    return dict(family().prepare([VIDEO], QUESTION).model_inputs) | changes


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"pixel_values": torch.zeros(1, 1, 3, 16, 16)}, "an image"),
        ({"input_ids": torch.zeros(2, 5, dtype=torch.long)}, "not a batch of 2"),
        ({"pixel_values_videos": torch.zeros(2, 6, 3, 16, 16)}, "one video at a time, not 2"),
        ({"pixel_values_videos": torch.zeros(1, 5, 3, 16, 16)}, "25 video place-holders for 5 frames; they need 21"),
        ({"image_sizes_videos": torch.zeros(1, 2)}, "no image_sizes_videos"),
    ],
)
def test_inputs_that_it_cannot_answer_are_refused(changes, complaint):
    with pytest.raises(OptionError, match=complaint):
        family().prompt_from_inputs(inputs(**changes))


def test_placeholders_without_a_video_are_refused():
    without = {key: value for key, value in inputs().items() if key != "pixel_values_videos"}
    with pytest.raises(OptionError, match="25 video place-holders for 0 frames; they need 0"):
        family().prompt_from_inputs(without)


def test_a_processor_that_counts_other_tokens_than_the_tower_is_refused():
    processor = tiny.llava_processor()
    processor.num_image_tokens = 36
    with pytest.raises(ModelError, match=r"9 tokens of a frame .* vision tower 4"):
        LlavaOnevision(family().model, processor, "odd")


def test_a_processor_that_makes_frames_of_another_size_than_the_tower_takes_is_refused():
    made = tiny.llava(tiny.llava_model(0))
    made.video_processor.size = {"height": 32, "width": 32}
    with pytest.raises(ModelError, match=r"makes frames of 32 x 32 pixels, and its vision tower takes \d+ x \d+: size"):
        SpecVLM(made).autoregressive(tiny.film(2), "what?", max_new_tokens=2)


def test_without_a_processor_it_answers_what_is_tokenised_and_says_so_about_the_rest():
    bare = LlavaOnevision(family().model, None, "bare")
    prompt = bare.prompt_from_inputs(inputs())
    assert torch.equal(embedded(bare, prompt), embedded(family(), prompt))
    with pytest.raises(ModelError, match="bare came without a processor"):
        bare.prepare([VIDEO], QUESTION)


def test_its_caches_are_empty_and_of_the_size_that_was_asked_for():
    cache = family().decoder.new_cache(7)
    assert isinstance(cache, TreeCache)
    assert [layer.capacity for layer in cache.layers] == [7, 7, 7]
    assert cache.length == cache.nbytes == 0
