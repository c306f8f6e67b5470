"""The judge of answers says what the steps of stock generate say, and notices what is wrong, where, and how far."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from specvlm.answering.answer import Generation
from specvlm.answering.options import Options
from specvlm.bench.exactness import FLOOR, Judge, descriptions, grid_of, main, measure
from specvlm.bench.performance import CHAPTERS
from specvlm.comparing import arms
from specvlm.comparing.arms import Way
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError
from specvlm.pipeline import SpecVLM
from specvlm.prompts.prompt import Prompt

GREEDY = Options(do_sample=False, max_new_tokens=12)
every_family = pytest.mark.parametrize("family", tiny.BUILDERS)


@lru_cache
def pair(family: str = "qwen2_5_vl", dtype: torch.dtype = torch.float64) -> SpecVLM:
    target = tiny.model(family, 0, dtype=dtype)
    return tiny.pair(target, tiny.noised(target, 0.02))


FILM = tiny.film(24, 1)
"""Frames enough for the times of Qwen2.5-VL to outrun the text behind them."""
QUESTION = "what happens?"


def prepared(vlm: SpecVLM, video: Any = FILM) -> Prompt:
    return vlm.prepare(video, QUESTION, GREEDY, Stats())


@contextmanager
def forwards(vlm: SpecVLM) -> Iterator[list[torch.Size]]:
    """The shapes of what the target's language model reads."""
    shapes: list[torch.Size] = []

    def note(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        shapes.append(kwargs["inputs_embeds"].shape)

    model: Any = vlm.target.model
    hook = model.model.language_model.register_forward_pre_hook(note, with_kwargs=True)
    yield shapes
    hook.remove()


@every_family
def test_the_judge_says_what_every_step_of_stock_generate_says(family: str) -> None:
    vlm = pair(family)
    prompt = prepared(vlm)
    model: Any = vlm.target.model
    inputs = {name: value.double() if "pixel" in name else value for name, value in prompt.model_inputs.items()}
    before = getattr(model.model, "rope_deltas", None)
    with vlm.target.as_found():
        steps = model.generate(
            **inputs, do_sample=False, max_new_tokens=12, output_logits=True, return_dict_in_generate=True
        )
    tokens = tuple(steps.sequences[0, prompt.num_tokens :].tolist())
    judge = Judge(vlm.target, prompt)
    assert torch.allclose(judge.logits(tokens), torch.cat(steps.logits).float(), rtol=0, atol=1e-6)
    assert getattr(model.model, "rope_deltas", None) is before

    # Whatever it was asked in between, and of however few tokens.
    other = judge.logits(tuple(reversed(tokens)))
    assert not torch.allclose(other[1:], judge.logits(tokens)[1:], atol=1e-2)
    for length in (0, 1, 2, 12):
        assert torch.equal(judge.logits(tokens[:length]), judge.logits(tokens)[:length])


def test_gaps_are_those_of_the_scores_that_were_chosen_from() -> None:
    vlm = pair()
    again = Options.of(GREEDY, {"repetition_penalty": 1.6})
    judge = Judge(vlm.target, prepared(vlm))
    tokens, careful = (vlm.autoregressive(FILM, QUESTION, options).token_ids for options in (GREEDY, again))
    assert tokens != careful
    assert judge.gaps(tokens, GREEDY)[0].max() == 0
    assert judge.gaps(careful, again)[0].max() == 0
    assert judge.gaps(careful, GREEDY)[0].max() > 0.01
    assert judge.gaps(tokens, again)[0].max() > 0.01

    scores = judge.logits((100, 100))[1]
    seen = torch.tensor([*prepared(vlm).input_ids.unique(), 100])
    scores[seen] = torch.where(scores[seen] < 0, scores[seen] * 1.6, scores[seen] / 1.6)
    assert judge.gaps((100, 100), again)[0][1] == scores.max() - scores[100]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_a_wrong_token_is_as_far_behind_as_it_is(dtype: torch.dtype) -> None:
    vlm = pair("llava_onevision", dtype)
    judge, tokens = Judge(vlm.target, prepared(vlm)), vlm.autoregressive(FILM, QUESTION, GREEDY).token_ids
    scores = judge.logits(tokens)[7]
    worst = int(scores.argmin())
    gaps, units = judge.gaps((*tokens[:7], worst, *tokens[8:]), GREEDY)
    distance = scores.max() - scores[worst]
    assert gaps[7] == distance > 1
    assert torch.isclose(units[7], distance / torch.finfo(dtype).eps / scores.max().abs())
    assert (gaps[:7] == judge.gaps(tokens, GREEDY)[0][:7]).all()


def floor(name: str, vlm: SpecVLM) -> Generation:
    return FLOOR[name].run(vlm, FILM, QUESTION, GREEDY)


@every_family
def test_the_noise_floor_is_stock_generate_asked_otherwise(family: str) -> None:
    vlm = pair(family)
    right, length = vlm.autoregressive(FILM, QUESTION, GREEDY).token_ids, prepared(vlm).num_tokens
    with forwards(vlm) as shapes:
        assert floor("ar twice", vlm).token_ids == right
    assert [tuple(shape[:2]) for shape in shapes] == [(2, length)] + [(2, 1)] * 11
    with forwards(vlm) as shapes:
        found = floor("ar in pieces", vlm)
    assert found.token_ids == right
    half = -(-length // 2)
    assert [tuple(shape[:2]) for shape in shapes] == [(1, half), (1, length - half)] + [(1, 1)] * 11
    assert found.stats.num_rounds == 11


def test_an_answer_in_a_batch_ends_where_it_ends() -> None:
    """A row that ends first is padded until the other one ends."""
    model: Any = copy.deepcopy(pair("llava_onevision").target.model)
    vlm = tiny.pair(model, None)
    tokens = vlm.autoregressive(FILM, QUESTION, GREEDY).token_ids
    place = max(i for i, token in enumerate(tokens) if token not in tokens[:i])
    assert place > 0
    model.generation_config.eos_token_id = [tokens[place], 2]
    generate = model.generate

    def padded(**inputs: Any) -> Any:
        output = generate(**inputs)
        return output if "custom_generate" in inputs else torch.nn.functional.pad(output, (0, 5), value=1)

    model.generate = padded
    assert floor("ar twice", vlm).token_ids == tokens[: place + 1]


def test_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = pair("llava_onevision")
    videos = [tiny.film(5, seed) for seed in (1, 2, 3)]
    right = [vlm.autoregressive(video, QUESTION, GREEDY).token_ids for video in videos]

    def lie(vlm: SpecVLM, video: Any, question: str, options: Options) -> Generation:
        said, place = vlm.autoregressive(video, question, options), {1: 9, 2: 4}.get(videos.index(video))
        tokens = list(said.token_ids)
        if place is not None:
            tokens[place] += 1
        return replace(said, token_ids=tuple(tokens))

    monkeypatch.setitem(arms.WAYS, "liar", Way("lies about two videos", lie))
    found = measure(vlm, ((video, QUESTION) for video in videos), ["sd", "liar"], GREEDY)
    assert [each.arm for each in found.arms] == ["ar", *FLOOR, "sd", "liar"]
    *honest, lying = found.arms
    for each in honest:
        assert [answer.tokens for answer in each.answers] == right
        assert (each.num_identical, each.first_divergence, each.num_behind, each.max_units) == (3, None, 0, 0.0)
        assert each.mean_acceptance_length == 1.0 or each.arm == "sd"
    assert honest[-1].mean_acceptance_length > 2
    assert (lying.num_identical, lying.first_divergence) == (1, 4)
    assert [answer.first_divergence for answer in lying.answers] == [None, 9, 4]
    assert lying.num_behind >= 2
    assert max(lying.gaps) == max(*lying.answers[1].gaps, *lying.answers[2].gaps) > 0.1
    assert lying.max_units > 1e6

    document = json.loads(json.dumps(found.to_json()))
    assert document["dtype"] == "float64"
    assert document["versions"].keys() >= {"torch", "transformers"}
    record = document["arms"][-1]
    assert record["arm"] == "liar"
    assert record["num_tokens"] == sum(len(answer["gaps"]) for answer in record["answers"]) == 36
    assert record["mean_gap"] == pytest.approx(sum(lying.gaps) / 36)
    rows = {row.split(" | ")[0]: row for row in found.table().splitlines()}
    assert "The noise floor is stock generate beside itself." in found.table()
    assert " 3 of 3 |  | 36 | 0 | 0.0000 " in rows["| ar twice"]
    assert f" 1 of 3 | 4 | 36 | {lying.num_behind} | {max(lying.gaps):.4f} " in rows["| liar"]


@pytest.mark.parametrize("do_sample", [None, True])
def test_draws_have_no_best_token(do_sample: bool | None) -> None:
    with pytest.raises(OptionError, match="do_sample must be False here"):
        measure(pair(), [], options=Options(do_sample=do_sample))


def test_films_to_describe() -> None:
    (first, question), (second, _) = descriptions(2, 4)
    assert len(first.frames) == len(second.frames) == 4
    assert (first.frames != second.frames).any()
    assert "video" in question


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    few = ["--prompts", "1", "--frames", "4", "--tokens", "6"]
    main(["--pair", "pocket-qwen2_5_vl", *few, "--arms", "specvlm", "strict", "--out", str(tmp_path), "--json"])
    *table, last = capsys.readouterr().out.splitlines()
    record = json.loads(last)
    assert record["dtype"] == "bfloat16"
    assert [arm["arm"] for arm in record["arms"]] == ["ar", *FLOOR, "specvlm", "strict"]
    assert all(len(arm["answers"][0]["tokens"]) == 6 for arm in record["arms"])
    assert table[0].startswith("| arm | identical |")
    kept = json.loads((tmp_path / "exactness-pocket-qwen2_5_vl-bfloat16.json").read_text())
    assert CHAPTERS["exactness"](kept) == grid_of(record)
    assert "pocket-qwen2_5_vl" in grid_of(kept).title
