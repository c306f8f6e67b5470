"""The committed pairs: plain transformers loads them, inputs are what they were trained on, and answers are right."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from specvlm import pocket
from specvlm.bench.pocket_pairs import FILM_SECONDS, Reader, film
from specvlm.pocket.language import ask, score
from specvlm.pocket.recipe.data import normalise, pack
from specvlm.pocket.recipe.models import architecture
from specvlm.pocket.world import make_scene


@pytest.fixture(scope="module", params=pocket.FAMILIES)
def made(request):
    return architecture(request.param)


@pytest.fixture(scope="module")
def reader(made):
    return Reader(made.model_type, pocket.path(made.model_type, "target"), torch.float32)


def load(made, role):
    return made.model_class.from_pretrained(pocket.path(made.model_type, role))


def test_training_saw_what_the_processor_makes(made, reader) -> None:
    seen = film(make_scene(pocket.HELD_OUT[3]), 8)
    inputs = reader.inputs([seen], "Count the shapes.")
    names = ("pixel_values_videos", "video_grid_thw")
    with torch.inference_mode():
        trained = made.features(reader.model, normalise(seen.frames)[None])
        output = reader.model.model.get_video_features(**{name: inputs[name] for name in names if name in inputs})
    shown = torch.cat(tuple(output.pooler_output)).reshape(trained.shape)
    torch.testing.assert_close(trained, shown, rtol=1e-4, atol=1e-4)


def test_frames_of_every_square_size_become_what_training_saw(made, reader) -> None:
    sizes = {}
    for size in (64, 96, 100, 224, 288, 336, 720):
        video = np.zeros((2, size, size, 3), np.uint8)
        sizes[size] = reader.processor.video_processor([video], return_tensors="pt")["pixel_values_videos"].numel()
    assert len(set(sizes.values())) == 1
    assert sizes[96] == 2 * 3 * 96 * 96


def test_training_read_what_the_chat_template_writes(made, reader) -> None:
    tokenizer, question = reader.processor.tokenizer, ask(make_scene(0), "detail", random.Random(0))
    row = pack(made, tokenizer, 4, 4 / FILM_SECONDS, [question])
    asked = reader.inputs([film(make_scene(0), 4)], question.text)["input_ids"][0].tolist()
    ids, labels = row.ids.tolist(), row.labels.tolist()
    assert ids[: len(asked)] == asked
    assert labels[: len(asked)] == [-100] * len(asked)
    assert ids[len(asked) :] == labels[len(asked) :] == tokenizer(question.answer + "<|im_end|>").input_ids


@pytest.mark.parametrize(("family", "video_tokens"), [("llava_onevision", 4 * 9 + 1), ("qwen2_5_vl", 2 * 9)])
def test_a_frame_is_nine_tokens_and_in_qwen_two_frames_are(family: str, video_tokens: int) -> None:
    processor = AutoProcessor.from_pretrained(pocket.path(family, "target"))
    text = f"a {processor.video_token}"
    inputs = processor(
        text=[text], videos=[np.zeros((4, 96, 96, 3), np.uint8)], do_sample_frames=False, return_tensors="pt"
    )
    assert inputs["input_ids"].tolist()[0].count(processor.video_token_id) == video_tokens


def test_both_models_speak_the_tokens_that_the_recipe_builds(made, reader) -> None:
    ours, draft = (
        reader.processor.tokenizer,
        AutoProcessor.from_pretrained(pocket.path(made.model_type, "draft")).tokenizer,
    )
    assert ours.get_vocab() == draft.get_vocab() == made.tokenizer().get_vocab()
    assert ours.chat_template == draft.chat_template


def test_an_answer_to_a_held_out_film_is_right(reader) -> None:
    right = asked = 0
    for seed in pocket.HELD_OUT[:3]:
        question = ask(make_scene(seed), "detail", random.Random(seed))
        (answer,) = reader.answer([film(make_scene(seed), 16)], question.text)
        for got, of in score(make_scene(seed), answer).values():
            right, asked = right + got, asked + of
    assert right / asked > 0.8


def test_a_draft_is_a_seventh_of_its_target(made) -> None:
    sizes = [sum(p.numel() for p in load(made, role).model.language_model.layers.parameters()) for role in pocket.ROLES]
    assert sizes[0] >= 7 * sizes[1]
    files = pocket.path(made.model_type).parent.rglob("*")
    assert sum(file.stat().st_size for file in files) < 30e6


def test_a_qwen_pair_sees_with_the_same_eyes() -> None:
    target, draft = (load(architecture("qwen2_5_vl"), role).model for role in pocket.ROLES)
    assert target.visual.config.to_dict() == draft.visual.config.to_dict()
    weights, others = target.visual.state_dict(), draft.visual.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
    words = [model.language_model.embed_tokens.weight for model in (target, draft)]
    assert not torch.equal(*words)


def test_windows_part_the_frame_and_some_layers_see_all_of_it() -> None:
    config = load(architecture("qwen2_5_vl"), "target").config.vision_config
    assert 0 < len(config.fullatt_block_indexes) < config.depth
    assert config.window_size < 96
