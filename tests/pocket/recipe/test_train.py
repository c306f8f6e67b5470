"""The recipe: packing hides neighbours, positions are those of `generate`, what is inherited is, all can be resumed."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from specvlm import pocket
from specvlm.pocket.language import KINDS, ask
from specvlm.pocket.recipe import train
from specvlm.pocket.recipe.architecture import CELLS
from specvlm.pocket.recipe.courses import COURSES
from specvlm.pocket.recipe.data import Conversations, StillLife, collate, normalise, pack, rate
from specvlm.pocket.recipe.inheritance import token_rows
from specvlm.pocket.recipe.models import ARCHITECTURES, architecture
from specvlm.pocket.recipe.optim import MasterAdamW
from specvlm.pocket.world import make_scene, render

FAMILIES = tuple(ARCHITECTURES)
LLAVA, QWEN = architecture("llava_onevision"), architecture("qwen2_5_vl")


@pytest.fixture(scope="module", params=FAMILIES)
def made(request):
    return architecture(request.param)


@pytest.fixture(scope="module")
def tokenizer(made):
    return made.tokenizer(num_scenes=300)


@pytest.fixture(scope="module")
def fresh(made, tokenizer):
    """An untrained draft, its features and words about equally loud, so that each has a say in the answers."""
    model = made.build("draft", tokenizer).eval()
    with torch.no_grad():
        made.outlet(model).weight *= 20
        model.model.language_model.embed_tokens.weight *= 20
    return model


@pytest.fixture
def draft():
    return LLAVA.load(pocket.path("llava_onevision", "draft"))


def test_batches_are_a_function_of_their_number(made, tokenizer) -> None:
    for source in (
        lambda: Conversations(made, tokenizer, rows=2, frames=(4, 8), seed=5),
        lambda: StillLife(made, rows=3, seed=5),
    ):
        again = source()
        again[0]
        assert torch.equal(source()[3].pixels, again[3].pixels)
        assert not torch.equal(source()[3].pixels, source()[1].pixels[:, :8])


def test_a_packed_question_does_not_see_its_neighbours(made, tokenizer, fresh) -> None:
    scene, rng = make_scene(17), random.Random(0)
    film = render(scene, np.arange(4) / 4)[None]
    questions = [ask(scene, kind, rng) for kind in KINDS]
    together = collate(film, [pack(made, tokenizer, 4, 1.0, questions)], 0)
    logits, labels = train.answer_logits(made, fresh, together, torch.float32)
    start = 0
    for question in questions:
        alone = collate(film, [pack(made, tokenizer, 4, 1.0, [question])], 0)
        wanted, answer = train.answer_logits(made, fresh, alone, torch.float32)
        end = start + len(answer)
        assert torch.equal(labels[start:end], answer)
        torch.testing.assert_close(logits[start:end], wanted, rtol=1e-4, atol=1e-4)
        start = end
    assert start == len(labels)


@pytest.mark.parametrize(("num_frames", "seconds"), [(8, 4.0), (16, 4.0), (16, None), (32, 7.3), (2, 0.5), (64, 4.0)])
def test_a_packed_row_has_the_inputs_and_positions_of_stock_generate(
    tokenizer, made, fresh, num_frames: int, seconds: float | None
) -> None:
    scene, rng = make_scene(23), random.Random(1)
    film = render(scene, np.arange(num_frames) / num_frames)
    questions = [ask(scene, kind, rng) for kind in ("detail", "count")]
    fps = 24.0 if seconds is None else num_frames / seconds
    row = pack(made, tokenizer, num_frames, fps, questions)
    video_len = int((row.segments == 0).sum())

    clock = {} if seconds is None else {"video_metadata": [{"total_num_frames": num_frames, "fps": fps}]}
    for number, question in enumerate(questions, 1):
        content = [{"type": "video", "video": film}, {"type": "text", "text": question.text}]
        inputs = made.processor(tokenizer).apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"do_sample_frames": False, **clock},
        )
        answer = tokenizer(question.answer + "<|im_end|>").input_ids
        chat = (row.segments == 0) | (row.segments == number)
        asked = inputs["input_ids"][0]
        assert torch.equal(row.ids[chat], torch.cat([asked, torch.tensor(answer)]))
        assert torch.equal(row.labels[chat][video_len:], row.labels[row.segments == number])
        assert row.labels[row.segments == number].tolist() == [-100] * (len(asked) - video_len) + answer

        used = _positions_of_generate(fresh, inputs, len(answer))
        assert torch.equal(row.positions[:, chat], used)
        features = made.features(fresh, normalise(film)[None])
        torch.testing.assert_close(features, _features_of(fresh, inputs).reshape(features.shape), rtol=1e-4, atol=1e-5)


def _positions_of_generate(model, inputs, num_new: int) -> torch.Tensor:
    """What the language model is given by stock `generate`, seen from outside, `[R, L + num_new]`."""
    seen: list[torch.Tensor] = []

    def look(module, args, kwargs) -> None:
        seen.append(kwargs["position_ids"].reshape(-1, 1, kwargs["position_ids"].shape[-1])[-3:, 0])

    hook = model.model.language_model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        # The last token that is generated is never read, so one more is asked for.
        kwargs = {"max_new_tokens": num_new + 1, "min_new_tokens": num_new + 1, "do_sample": False}
        model.generate(**inputs, **kwargs)
    finally:
        hook.remove()
    return torch.cat(seen, dim=-1)


def _features_of(model, inputs) -> torch.Tensor:
    names = ("pixel_values_videos", "video_grid_thw")
    output = model.model.get_video_features(**{name: inputs[name] for name in names if name in inputs})
    return torch.cat(tuple(output.pooler_output))


def test_an_answer_goes_on_behind_the_question_though_the_clock_is_ahead() -> None:
    """Or the test of positions above would be about no more than counting."""
    tokenizer = QWEN.tokenizer(num_scenes=300)
    row = pack(QWEN, tokenizer, 16, 4.0, [ask(make_scene(0), "count", random.Random(0))])
    text = row.positions[:, row.segments == 1]
    moments = row.positions[0, row.ids == tokenizer.convert_tokens_to_ids("<|video_pad|>")].unique()
    assert len(moments) == 8
    assert text[:, 0].max() < moments.max()
    assert (text.diff() == 1).all()


def test_moments_have_positions_of_their_own() -> None:
    tokenizer = QWEN.tokenizer(num_scenes=300)
    for num_frames in (2, 8, 16, 32, 64):
        for fps in (24.0, num_frames / 4):
            opening = QWEN.opening(tokenizer, num_frames, fps)
            is_video = torch.tensor(opening.ids) == tokenizer.convert_tokens_to_ids(QWEN.video_token)
            assert len(opening.positions[0, is_video].unique()) == num_frames // 2


def test_films_have_different_clocks() -> None:
    rates = [rate(16, random.Random(seed)) for seed in range(300)]
    assert rates.count(24.0) > 10
    assert rates.count(4.0) > 100
    assert len(set(rates)) > 50


def test_deepening_changes_nothing_until_it_is_trained(draft) -> None:
    batch = Conversations(LLAVA, LLAVA.tokenizer(num_scenes=300), rows=1, frames=(4,))[0]
    before = train.answer_logits(LLAVA, draft, batch)[0]
    deep = train.deepen(draft, 5)
    assert len(deep.model.language_model.layers) == deep.config.text_config.num_hidden_layers == 5
    assert torch.equal(train.answer_logits(LLAVA, deep, batch)[0], before)
    again = train.slim(deep, 2)
    assert [layer.self_attn.layer_idx for layer in again.model.language_model.layers] == [0, 1]
    assert torch.equal(train.answer_logits(LLAVA, again, batch)[0], before)


def test_an_heir_speaks_as_its_lender_does(draft) -> None:
    """Without a video both are one language model, but for the numbers of the tokens."""
    tokenizer, inheritance = QWEN.tokenizer(), COURSES["qwen2_5_vl"].inheritance
    assert inheritance is not None
    heir = train.heir(QWEN, QWEN.build("draft", tokenizer), "draft", tokenizer, inheritance)
    lender = AutoProcessor.from_pretrained(pocket.path("llava_onevision", "draft")).tokenizer
    text = "<|im_start|>user \nCount the shapes.<|im_end|><|im_start|>assistant\nThe video shows"
    with torch.inference_mode():
        ours = heir(torch.tensor([tokenizer(text).input_ids])).logits
        theirs = draft(torch.tensor([lender(text).input_ids])).logits
    torch.testing.assert_close(ours[..., :536], theirs[..., :536], rtol=0.05, atol=0.2)
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


def test_rows_of_embeddings_follow_their_tokens() -> None:
    tokenizer, inheritance = QWEN.tokenizer(), COURSES["qwen2_5_vl"].inheritance
    assert inheritance is not None
    lender = AutoProcessor.from_pretrained(pocket.path("llava_onevision", "target")).tokenizer
    rows = token_rows(tokenizer, lender, dict(inheritance.names))
    renamed = {"<image>": "<|image_pad|>", "<video>": "<|video_pad|>"}
    for ours, theirs in rows.items():
        name = lender.convert_ids_to_tokens(theirs)
        assert tokenizer.convert_ids_to_tokens(ours) == renamed.get(name, name)
    without = {tokenizer.convert_ids_to_tokens(row) for row in range(len(tokenizer)) if row not in rows}
    assert without == {"<|vision_start|>", "<|vision_end|>"}


def test_what_eyes_should_show_is_the_mean_of_a_tokens_frames() -> None:
    inheritance = COURSES["qwen2_5_vl"].inheritance
    assert inheritance is not None
    lender = inheritance.model("target")
    frames = normalise(render(make_scene(5), [0.1, 0.6]))[None].bfloat16()
    both = inheritance.features(lender, frames)
    alone = [inheritance.features(lender, frames[:, index : index + 1]).float() for index in (0, 1)]
    assert both.shape == (1, CELLS, 256)
    torch.testing.assert_close(both.float(), (alone[0] + alone[1]) / 2, rtol=0.02, atol=0.02)
    assert not torch.allclose(alone[0], alone[1], atol=0.1)


def test_the_master_copy_learns_what_bfloat16_would_round_away() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.ones(4, 3, dtype=torch.bfloat16))
    reference = torch.nn.Parameter(torch.ones(4, 3))
    ours, adamw = MasterAdamW([weight]), torch.optim.AdamW([reference], lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01)
    for _ in range(20):
        weight.sum().backward()
        ours.step(1e-4, max_norm=1e9)
        adamw.zero_grad()
        reference.sum().backward()
        adamw.step()
    torch.testing.assert_close(ours.master.view(4, 3), reference.data)
    assert torch.equal(weight.data, reference.data.bfloat16())


@pytest.mark.slow
def test_the_whole_recipe_runs_and_resumes(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, int]] = []

    def batches(source, start: int, stop: int):
        asked.append((type(source).__name__, start, stop))
        return (source[step] for step in range(start, stop))

    def short(stages):
        return tuple(replace(stage, steps=2, rows=1, frames=(2,)) for stage in stages)

    course = COURSES[made.model_type]
    quick = replace(course, see=1, see_rows=2, target=short(course.target), echo=short(course.echo))
    monkeypatch.setattr(train, "batches", batches)
    monkeypatch.setitem(COURSES, made.model_type, quick)
    train.run(made.model_type, tmp_path, upto="target-1")
    first = len(asked)
    assert asked[0] == ("StillLife", 0, 1)
    train.run(made.model_type, tmp_path)
    assert ("StillLife", 0, 1) not in asked[first:], "seeing was learned again"
    assert ("Conversations", 2, 2) in asked[first:], "a finished stage was trained again"
    models = {}
    for role, layers in (("target", 14), ("draft", 2)):
        models[role] = made.model_class.from_pretrained(tmp_path / role)
        assert models[role].dtype == torch.bfloat16
        assert models[role].config.text_config.num_hidden_layers == layers
        assert AutoProcessor.from_pretrained(tmp_path / role).video_token == made.video_token
    shared = [
        all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
        for ours, theirs in zip(made.eyes(models["target"]), made.eyes(models["draft"]), strict=True)
    ]
    assert shared == [True] if made is QWEN else shared == [True, False]
