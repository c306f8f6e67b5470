"""The committed pair: plain transformers loads it, its inputs are what it was trained on, and it is right."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

from specvlm import pocket
from specvlm.pocket.data import VIDEO_TOKENS_PER_FRAME, normalise, pack
from specvlm.pocket.language import ask, score
from specvlm.pocket.models import build_tokenizer
from specvlm.pocket.world import make_scene, render


def frames_of(seed: int, num_frames: int) -> np.ndarray:
    return render(make_scene(seed), (np.arange(num_frames) + 0.5) / num_frames)


def chat(processor, film: np.ndarray, question: str):
    content = [{"type": "video", "video": film}, {"type": "text", "text": question}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"do_sample_frames": False},
    )


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(pocket.path("llava_onevision", "target"))


@pytest.fixture(scope="module")
def target():
    path = pocket.path("llava_onevision", "target")
    return LlavaOnevisionForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()


def test_training_saw_what_the_processor_makes(processor) -> None:
    film = frames_of(pocket.HELD_OUT[3], 8)
    seen = chat(processor, film, "Count the shapes.")["pixel_values_videos"][0]
    torch.testing.assert_close(normalise(film), seen, rtol=0, atol=1e-6)


def test_training_read_what_the_chat_template_writes(processor) -> None:
    film, tokenizer = frames_of(0, 4), processor.tokenizer
    question = ask(make_scene(0), "detail", random.Random(0))
    ids, _, _, labels = pack(tokenizer, 4, [question])
    asked = chat(processor, film, question.text)["input_ids"][0].tolist()
    assert ids[: len(asked)] == asked
    assert labels[: len(asked)] == [-100] * len(asked)
    assert ids[len(asked) :] == labels[len(asked) :] == tokenizer(question.answer + "<|im_end|>").input_ids
    assert asked.count(tokenizer.convert_tokens_to_ids("<video>")) == 4 * VIDEO_TOKENS_PER_FRAME + 1


def test_both_models_speak_the_tokens_that_the_recipe_builds(processor) -> None:
    draft = AutoProcessor.from_pretrained(pocket.path("llava_onevision", "draft")).tokenizer
    assert processor.tokenizer.get_vocab() == draft.get_vocab() == build_tokenizer().get_vocab()
    assert processor.tokenizer.chat_template == draft.chat_template


def test_an_answer_to_a_held_out_film_is_right(processor, target) -> None:
    right = asked = 0
    for seed in pocket.HELD_OUT[:3]:
        question = ask(make_scene(seed), "detail", random.Random(seed))
        inputs = chat(processor, frames_of(seed, 16), question.text)
        with torch.inference_mode():
            tokens = target.generate(**inputs, do_sample=False)
        answer = processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for got, of in score(make_scene(seed), answer).values():
            right, asked = right + got, asked + of
    assert right / asked > 0.8


def test_a_draft_is_a_tenth_of_its_target(target) -> None:
    draft = LlavaOnevisionForConditionalGeneration.from_pretrained(pocket.path("llava_onevision", "draft"))
    sizes = [sum(p.numel() for p in model.model.language_model.layers.parameters()) for model in (target, draft)]
    assert sizes[0] > 6 * sizes[1]
    files = pocket.path().parent.rglob("*")
    assert sum(file.stat().st_size for file in files) < 30e6
