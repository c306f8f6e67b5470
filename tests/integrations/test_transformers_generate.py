"""`model.generate(..., custom_generate=specvlm.custom_generate)` against the very same call without it."""

from __future__ import annotations

import copy
import gc
import re
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import transformers
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    MaxLengthCriteria,
    Qwen2Config,
    Qwen2ForCausalLM,
    StoppingCriteria,
    StopStringCriteria,
)
from transformers.generation.streamers import BaseStreamer

import specvlm
import tiny
from integrations.calls import draft, inputs, same, target
from specvlm import DynamicTree, ModelError, OptionError
from specvlm.families.releases import CACHE_NAMES, CHUNKS_SEE_WRONG
from specvlm.integrations import transformers_generate as custom
from specvlm.pruning import PRUNERS, num_to_keep

DOCS = Path(__file__).parents[2] / "docs" / "transformers.md"


@lru_cache
def hostile() -> transformers.PreTrainedModel:
    return tiny.llava_model(1, layers=2, hidden=16, heads=2, kv_heads=1)


class Bias(LogitsProcessor):
    """A processor with a memory: it notes how often it was asked, and each answer depends on that."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def __call__(self, input_ids, scores):
        self.lengths.append(input_ids.shape[1])
        return scores.roll(len(self.lengths) % 3, dims=-1)


class After(StoppingCriteria):
    """Ends an answer once it holds a token."""

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids, scores, **kwargs):
        return torch.tensor([self.token in input_ids[0, -20:].tolist()])


class Tape(BaseStreamer):
    def __init__(self, fail_at: int | None = None) -> None:
        self.heard: list = []
        self.fail_at = fail_at

    def put(self, value):
        self.heard.append((value.shape, value.tolist()))
        if len(self.heard) == self.fail_at:
            raise RuntimeError("the listener left")

    def end(self):
        self.heard.append("end")


@pytest.mark.part(2)
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"repetition_penalty": 1.2},
        {"no_repeat_ngram_size": 2, "min_new_tokens": 30},
        {"do_sample": True, "temperature": 0.7},
        {"do_sample": True, "top_p": 0.5, "repetition_penalty": 1.05},
        {"do_sample": True, "temperature": 0.5, "top_k": 5, "min_p": 0.05},
        {"generation_config": GenerationConfig(max_new_tokens=30, do_sample=True, temperature=0.6, eos_token_id=2)},
        {"cache_implementation": "static", "disable_compile": True},
        {"max_length": 60, "max_new_tokens": None},
        {"suppress_tokens": [5, 6, 7], "renormalize_logits": True},
    ],
)
def test_same_tokens_greedy_and_sampled(kwargs):
    accepted = sum(same(given=inputs(seed), seed=seed, **kwargs)[1].num_accepted for seed in range(2))
    assert accepted > 10


@pytest.mark.part(2)
@pytest.mark.parametrize("pruner", sorted(PRUNERS))
def test_same_tokens_whatever_the_draft_sees(pruner):
    for ratio, positions in ((0.9, "original"), (0.5, "compact")):
        _, stats = same(ours={"pruner": pruner, "pruning_ratio": ratio, "positions": positions})
        assert stats.num_accepted > 0
        assert stats.num_kept == (21 if pruner == "none" else num_to_keep(21, ratio))


@pytest.mark.parametrize(
    "shape",
    [
        {"tree": "chain", "depth": 3},
        {"tree": "paper"},
        {"tree": [[0], [1], [0, 0], [0, 1]]},
        {"tree": DynamicTree(depth=2, width=2, num_nodes=5)},
        {"depth": 2, "width": 3, "num_nodes": 6},
    ],
)
def test_same_tokens_whatever_the_tree(shape):
    _, stats = same(ours=shape)
    assert stats.num_accepted > 0
    assert len(stats.accepted_per_depth) <= shape.get("depth", 5)


@pytest.mark.parametrize(
    "ours",
    [
        {"plan": "auto"},
        {"plan": "auto", "pruning_ratio": None},
        {"plan": "fixed"},
        {"strict": True},
        {"strict": True, "plan": "fixed", "tree": "paper"},
        {"vision": "full"},
        {"vision": "spared", "prune_images": True},
        {"draft_model": "self", "self_scope": "head", "pruning_ratio": 0.5},
    ],
    ids=str,
)
def test_same_tokens_with_all_that_specvlm_may_be_told(ours):
    _, stats = same(ours=ours)
    assert stats.num_accepted > 0


def test_trees_are_planned_unless_one_is_described_and_what_is_learnt_outlives_the_call():
    same()
    mine, before = copy.deepcopy(draft()), len(custom._LEARNT[target()])
    _, fixed = same(ours={"draft_model": mine, "tree": "chain", "depth": 2})
    assert {len(each.tree) for each in fixed.rounds[:-2]} == {1 + 2}
    [planners] = custom._LEARNT[target()][mine].values()
    assert not planners
    for _ in range(2):
        same(ours={"draft_model": mine})
    [planner] = planners.values()
    assert planner.experience.speedup.weight > 0
    del mine
    gc.collect()
    assert len(custom._LEARNT[target()]) == before


def test_draws_have_no_strict_answer():
    with pytest.raises(OptionError, match="strict=True is for greedy answers"):
        same(ours={"strict": True}, do_sample=True)


def test_the_target_as_its_own_draft_is_always_right():
    for kwargs in ({}, {"repetition_penalty": 1.0, "do_sample": True, "top_k": 1}):
        _, stats = same(ours={"draft_model": target(), "pruning_ratio": 0.0, "tree": "chain", "depth": 4}, **kwargs)
        assert stats.acceptance_rate == 1.0
        assert stats.num_rounds == 7  # 31 tokens after the first, 5 a round


def test_a_hostile_draft_costs_time_alone():
    tokens, stats = same(ours={"draft_model": hostile(), "tree": "paper"}, do_sample=True)
    assert stats.num_accepted < stats.num_drafted / 10
    assert stats.num_rounds > 0.8 * (len(tokens) - 1)


@pytest.mark.parametrize("sample", [False, True])
def test_without_a_draft_each_round_is_a_token(sample):
    tokens, stats = same(ours={"draft_model": None}, do_sample=sample)
    assert stats.num_rounds == len(tokens) - 1
    assert stats.num_drafted == 0


def test_same_tokens_in_float64():
    model, twin = copy.deepcopy(target()).double(), copy.deepcopy(draft()).double()
    for kwargs in ({}, {"do_sample": True, "temperature": 0.6}):
        _, stats = same(model, inputs(dtype=torch.float64), ours={"draft_model": twin}, **kwargs)
        assert stats.num_accepted > 0


def test_a_prompt_of_text_alone():
    for given in (inputs(num_frames=0), {"input_ids": torch.tensor([[40, 41, 42]])}):
        _, stats = same(given=given)
        assert stats.num_accepted > 0
        assert stats.num_video_tokens == 0


def test_eos_inside_an_accepted_path_ends_the_answer():
    free, _ = same(ours={"draft_model": target(), "pruning_ratio": 0.0})
    for place in (0, 3, 7, 12):
        eos = [free[place], 311]
        tokens, _ = same(ours={"draft_model": target(), "pruning_ratio": 0.0}, eos_token_id=eos)
        assert tokens == free[: free.index(free[place]) + 1]


def test_the_length_is_exact():
    free, _ = same()
    for count in (1, 2, 3, 10):
        assert same(max_new_tokens=count)[0] == free[:count]
    length = inputs()["input_ids"].shape[1]
    for limit, count in ((length + 4, 4), (length - 1, 1)):  # generate only looks after the first token
        assert same(stopping_criteria=[MaxLengthCriteria(limit)])[0] == free[:count]


def test_stop_strings():
    free, _ = same()
    tokenizer = tiny.tokenizer()
    whole = tokenizer.decode(free)
    stop = max((word for word in map(tokenizer.decode, free[:-3]) if word.isascii()), key=whole.index)
    tokens, stats = same(stop_strings=[stop, "never said"], tokenizer=tokenizer)
    assert tokens == free[: len(tokens)] != free
    assert stop in tokenizer.decode(tokens)
    assert stats.num_accepted > 0
    assert same(stop_strings=stop, tokenizer=tokenizer)[0] == tokens
    # A criterion of the caller's own takes the place of the one that generate makes.
    own = StopStringCriteria(tokenizer, ["never said"])
    assert same(stop_strings=stop, tokenizer=tokenizer, stopping_criteria=[own])[0] == free


def test_stopping_criteria_of_the_caller():
    free, _ = same()
    tokens, stats = same(stopping_criteria=[After(free[14])])
    assert tokens == free[: free.index(free[14]) + 1]
    assert stats.num_accepted > 0


def test_a_logits_processor_of_the_caller_is_asked_once_a_token_in_order():
    kwargs = {"max_new_tokens": 30, "do_sample": True, "temperature": 0.5}
    calls = []
    for extra in ({}, {"custom_generate": specvlm.custom_generate, "draft_model": draft(), "pruning_ratio": 0.0}):
        torch.manual_seed(3)
        bias = Bias()
        tokens = target().generate(**inputs(), **kwargs, **extra, logits_processor=[bias]).tolist()
        calls.append((tokens, bias.lengths))
    assert calls[0] == calls[1]


@pytest.mark.parametrize("draft_model", [draft, lambda: None])
def test_a_streamer_hears_what_it_always_hears(draft_model):
    tapes = []
    for extra in ({}, {"custom_generate": specvlm.custom_generate, "draft_model": draft_model()}):
        tape = Tape()
        target().generate(**inputs(), max_new_tokens=25, streamer=tape, **extra)
        tapes.append(tape.heard)
    assert tapes[0] == tapes[1]
    assert tapes[1][-1] == "end"
    assert len(tapes[1]) == 1 + 25 + 1


def test_a_streamer_given_by_place():
    tape, given = Tape(), inputs()
    ids = given.pop("input_ids")
    output = target().generate(
        ids, *[None] * 6, tape, **given, max_new_tokens=3, custom_generate=specvlm.custom_generate
    )
    assert [value for _, value in tape.heard[1:-1]] == [[token] for token in output[0, ids.shape[1] :].tolist()]


def test_left_padding_is_no_part_of_the_prompt():
    given = inputs()
    padded = given | {
        "input_ids": torch.nn.functional.pad(given["input_ids"], (3, 0)),
        "attention_mask": torch.nn.functional.pad(given["attention_mask"], (3, 0)),
    }
    tokens, stats = same(given=padded)
    assert tokens == same(given=given)[0]
    assert stats.num_prompt_tokens == given["input_ids"].shape[1]
    # But the caller's rules count it, as they do in generate.
    rule = {"prefix_allowed_tokens_fn": lambda batch, ids: [10 + len(ids) % 5, 20 + len(ids) % 7]}
    assert same(given=padded, **rule)[0] != same(given=given, **rule)[0]


def test_return_dict_in_generate():
    plain, _ = same()
    output = target().generate(
        **inputs(),
        max_new_tokens=32,
        return_dict_in_generate=True,
        custom_generate=specvlm.custom_generate,
        draft_model=draft(),
    )
    assert output.sequences[0, -len(plain) :].tolist() == plain
    assert list(output) == ["sequences"]


def test_the_vision_tower_runs_once_a_model():
    runs = []
    hooks = [
        model.model.vision_tower.register_forward_hook(lambda *_, name=name: runs.append(name))
        for name, model in (("target", target()), ("draft", draft()))
    ]
    try:
        target().generate(
            **inputs(), max_new_tokens=5, custom_generate=specvlm.custom_generate, draft_model=draft(), pruner="uniform"
        )
    finally:
        for hook in hooks:
            hook.remove()
    assert sorted(runs) == ["draft", "target"]


@pytest.mark.parametrize("fail_at", [None, 4])
def test_nothing_is_left_behind(fail_at):
    """Also not when the call dies half-way."""

    def state():
        tensors, rest = [{name: value.clone() for name, value in given.items()}], []
        for model in (target(), draft()):
            tensors.append({name: value.clone() for name, value in model.state_dict().items()})
            rest += [model.config.to_dict(), model.generation_config.to_dict()]
            for module in model.modules():
                rest.append((sorted(vars(module)), len(module._forward_hooks), len(module._forward_pre_hooks)))
            rest += [module.config._attn_implementation for module in model.modules() if hasattr(module, "config")]
        return tensors, [*rest, sorted(AttentionInterface().keys()), sorted(AttentionMaskInterface().keys())]

    given = inputs()
    before = state()
    try:
        target().generate(
            **given,
            max_new_tokens=20,
            streamer=Tape(fail_at),
            custom_generate=specvlm.custom_generate,
            draft_model=draft(),
        )
        assert fail_at is None
    except RuntimeError:
        assert fail_at is not None
    after = state()
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    assert after[1] == before[1]


def embeds() -> torch.Tensor:
    return target().get_input_embeddings()(inputs()["input_ids"])


@pytest.mark.parametrize(
    ("kwargs", "error", "reason"),
    [
        ({"assistant_model": draft}, OptionError, "draft_model=..."),
        ({"prompt_lookup_num_tokens": 3}, OptionError, "assisted_generation"),
        ({"num_beams": 2}, OptionError, "beam_search"),
        ({"do_sample": True, "num_return_sequences": 2}, OptionError, "num_return_sequences must be 1, not 2"),
        ({"position_ids": lambda: 1 + torch.arange(43)[None]}, OptionError, "position_ids can't be given"),
        ({"mm_encoder_outputs": {"image": torch.zeros(1, 1)}}, OptionError, "mm_encoder_outputs can't be given"),
        ({"vision_feature_layer": -1}, OptionError, "no vision_feature_layer"),
        ({"pixel_values": torch.zeros(1, 1, 3, 16, 16)}, OptionError, "image"),
        ({"inputs_embeds": embeds}, OptionError, "no inputs_embeds"),
        ({"stop_strings": "a"}, OptionError, "stop_strings='a' needs tokenizer"),
        ({"return_dict_in_generate": True, "output_scores": True}, OptionError, "output_scores"),
        ({"return_dict_in_generate": True, "output_attentions": True}, OptionError, "output_attentions"),
        ({"guidance_scale": 1.5, "negative_prompt_ids": torch.tensor([[5]])}, OptionError, "keeps a memory"),
        ({"synced_gpus": True}, OptionError, "synced_gpus=True"),
        ({"pruning_ratio": 1.5}, OptionError, "pruning_ratio must be a number from 0 to 1, not 1.5"),
        ({"pruner": "best"}, OptionError, "best"),
        ({"tree": "chain", "width": 2}, OptionError, "width belongs to the dynamic tree"),
        ({"attention_mask": lambda: torch.arange(43)[None] < 36}, OptionError, "padding on the left"),
        ({"attention_mask": lambda: torch.arange(43)[None] != 9}, OptionError, "padding on the left"),
        ({"draft_model": "tiny"}, ModelError, "draft_model must be a loaded transformers model, not 'tiny'"),
    ],
)
def test_refusals(kwargs, error, reason):
    kwargs = {name: value() if callable(value) else value for name, value in kwargs.items()}
    with pytest.raises(error, match=re.escape(reason)):
        target().generate(**inputs() | {"max_new_tokens": 5} | kwargs, custom_generate=specvlm.custom_generate)


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")  # from 5.24.0 on
@pytest.mark.parametrize("name", CACHE_NAMES)
def test_a_cache_of_the_callers_own_is_refused_by_either_name(name):
    """Some releases themselves refuse the name that they don't have (ValueError), others take it and do without."""
    with pytest.raises((OptionError, ValueError), match=rf"(cache|past_key_values) can't be given|\['{name}'\]"):
        target().generate(
            **inputs(), **{name: DynamicCache()}, max_new_tokens=5, custom_generate=specvlm.custom_generate
        )


def test_a_video_read_in_chunks_is_as_stock_reads_it_or_refused_where_stock_reads_it_wrong():
    assert same(given=inputs(num_frames=0), prefill_chunk_size=7)[1].num_accepted > 0
    if CHUNKS_SEE_WRONG:
        whole, pieces = (target().generate(**inputs(), max_new_tokens=12, prefill_chunk_size=n) for n in (None, 7))
        assert not torch.equal(whole, pieces)
        with pytest.raises(OptionError, match="prefill_chunk_size=7: generate of transformers 5"):
            same(prefill_chunk_size=7)
    else:
        assert same(prefill_chunk_size=7)[1].num_accepted > 0


def test_a_batch_is_refused():
    ids = inputs(num_frames=0)["input_ids"].repeat(2, 1)
    with pytest.raises(OptionError, match="not a batch of 2"):
        target().generate(input_ids=ids, max_new_tokens=5, custom_generate=specvlm.custom_generate)


def test_a_quantized_cache_is_refused(monkeypatch):
    monkeypatch.setattr(transformers.generation.utils, "QuantizedCache", lambda **kwargs: DynamicCache())
    with pytest.raises(OptionError, match="quantized"):
        target().generate(
            **inputs(), max_new_tokens=5, cache_implementation="quantized", custom_generate=specvlm.custom_generate
        )


def test_a_video_whose_pixels_are_missing_is_refused():
    given = inputs()
    del given["pixel_values_videos"]
    with pytest.raises(OptionError, match="21 video place-holders for 0 frames"):
        target().generate(**given, max_new_tokens=5, custom_generate=specvlm.custom_generate)


def test_drafts_that_do_not_fit_are_refused():
    text = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=32, hidden_size=16, num_hidden_layers=1, intermediate_size=16, num_attention_heads=2)
    )
    coarse = copy.deepcopy(draft())
    coarse.config.vision_config.patch_size = 8
    for other, reason in (
        (text, "Qwen2ForCausalLM is a qwen2, which is not supported; supported are .*llava_onevision"),
        (coarse, "see a video differently: tokens per frame is 4 in one and 1 in the other"),
    ):
        with pytest.raises(ModelError, match=reason):
            target().generate(**inputs(), max_new_tokens=5, custom_generate=specvlm.custom_generate, draft_model=other)
    with pytest.raises(ModelError, match="qwen2, which is not supported"):
        text.generate(torch.tensor([[1, 2]]), max_new_tokens=2, custom_generate=specvlm.custom_generate)


def test_the_example_in_the_docs(tmp_path, monkeypatch, capsys):
    """It runs as it stands, but for checkpoints and a video that are at hand."""
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    for name, model in (("llava-onevision-qwen2-7b-ov-hf", target()), ("llava-onevision-qwen2-0.5b-ov-hf", draft())):
        model.save_pretrained(tmp_path / "llava-hf" / name)
        tiny.llava_processor().save_pretrained(tmp_path / "llava-hf" / name)
    with av.open(str(tmp_path / "cat.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=8, width=32, height=32)
        for frame in np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode())
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(example, str(DOCS), "exec"), names)
    assert names["stats"].num_tokens > 1
    assert names["stats"].num_drafted > 0
    stock = names["target"].generate(**names["inputs"], max_new_tokens=256)
    assert names["output"].tolist() == stock.tolist()
    assert "tokens a round" in capsys.readouterr().out
