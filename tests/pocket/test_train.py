"""The recipe: packing hides neighbours, deepening changes nothing at first, and every stage can be resumed."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

from specvlm import pocket
from specvlm.pocket import train
from specvlm.pocket.data import Conversations, StillLife, collate, pack
from specvlm.pocket.language import KINDS, ask
from specvlm.pocket.models import build_tokenizer
from specvlm.pocket.optim import MasterAdamW
from specvlm.pocket.world import make_scene, render


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(num_scenes=300)


@pytest.fixture
def draft():
    return train.load(pocket.path("llava_onevision", "draft"))


def test_batches_are_a_function_of_their_number(tokenizer) -> None:
    for source in (
        lambda: Conversations(tokenizer, rows=2, frames=(4, 8), seed=5),
        lambda: StillLife(rows=3, seed=5),
    ):
        again = source()
        again[0]
        assert torch.equal(source()[3].pixels, again[3].pixels)
        assert not torch.equal(source()[3].pixels, source()[1].pixels[:, :4])


def test_a_packed_question_does_not_see_its_neighbours(draft) -> None:
    tokenizer = AutoProcessor.from_pretrained(pocket.path("llava_onevision", "draft")).tokenizer
    scene, rng = make_scene(17), random.Random(0)
    film = render(scene, np.arange(4) / 4)[None]
    questions = [ask(scene, kind, rng) for kind in KINDS]
    together = collate(film, [pack(tokenizer, 4, questions)], 0)
    logits, labels = train.answer_logits(draft.float(), together, torch.float32)
    start = 0
    for question in questions:
        alone = collate(film, [pack(tokenizer, 4, [question])], 0)
        wanted, answer = train.answer_logits(draft, alone, torch.float32)
        end = start + len(answer)
        assert torch.equal(labels[start:end], answer)
        torch.testing.assert_close(logits[start:end], wanted, rtol=1e-4, atol=1e-4)
        start = end
    assert start == len(labels)


def test_deepening_changes_nothing_until_it_is_trained(draft) -> None:
    batch = Conversations(build_tokenizer(num_scenes=300), rows=1, frames=(4,))[0]
    before = train.answer_logits(draft, batch)[0]
    deep = train.deepen(draft, 5)
    assert len(deep.model.language_model.layers) == deep.config.text_config.num_hidden_layers == 5
    assert torch.equal(train.answer_logits(deep, batch)[0], before)
    again = train.slim(deep, 2)
    assert [layer.self_attn.layer_idx for layer in again.model.language_model.layers] == [0, 1]
    assert torch.equal(train.answer_logits(again, batch)[0], before)


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


def test_the_whole_recipe_runs_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, int]] = []

    def batches(source, start: int, stop: int):
        asked.append((type(source).__name__, start, stop))
        return (source[step] for step in range(start, stop))

    monkeypatch.setattr(train, "batches", batches)
    monkeypatch.setattr(train, "SEE_STEPS", 1)
    for name in ("DRAFT", "TARGET", "ECHO"):
        stages = [replace(stage, steps=2, rows=1, frames=(2,)) for stage in getattr(train, name)]
        monkeypatch.setattr(train, name, stages)
    train.run(tmp_path, upto="target-1")
    first = len(asked)
    train.run(tmp_path)
    assert ("Conversations", 2, 2) in asked[first:], "a finished stage was trained again"
    for role, layers in (("target", 14), ("draft", 2)):
        model = LlavaOnevisionForConditionalGeneration.from_pretrained(tmp_path / role)
        assert model.dtype == torch.bfloat16
        assert model.config.text_config.num_hidden_layers == layers
        assert AutoProcessor.from_pretrained(tmp_path / role).video_token == "<video>"
