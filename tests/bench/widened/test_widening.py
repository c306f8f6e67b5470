"""A widened model computes the small model's function, to the last digits of float64."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

import specvlm
import tiny
from bench.small import CASES, LONG_HEADS, MORE_KV, POCKET_SHAPES, SAME_HEADS, inputs, pocket_model, small
from specvlm import pocket
from specvlm.bench.widened.check import QUESTION
from specvlm.bench.widened.nesting import rotary_places
from specvlm.bench.widened.shapes import Shape
from specvlm.bench.widened.widening import widen
from specvlm.engine.tree import ancestor_mask
from specvlm.errors import ModelError, OptionError
from specvlm.families.releases import with_cache

CLOSE = 1e-9
PARENTS = (-1, 0, 0, 1, 1, 2, 3)


@lru_cache
def wide(case: str) -> PreTrainedModel:
    name, shape = CASES[case]
    return widen(small(name), shape, dtype=torch.float64)


@pytest.fixture(params=CASES)
def pair(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A small model and a widened one."""
    return small(CASES[request.param][0]), wide(request.param)


def difference(model: PreTrainedModel, small_logits: torch.Tensor, wide_logits: torch.Tensor) -> float:
    """The largest, as a part of the largest logit; over the vocabulary that both have."""
    shared = wide_logits[..., : model.config.text_config.vocab_size]
    return float((shared - small_logits).abs().max() / small_logits.abs().max())


@torch.no_grad()
def prefill(model: PreTrainedModel, cache: DynamicCache | None = None) -> torch.Tensor:
    kept = {} if cache is None else with_cache(model.forward, cache)
    return model(**inputs(model), **kept, use_cache=cache is not None).logits


@torch.no_grad()
def tree_step(model: PreTrainedModel, cache: DynamicCache, mask: torch.Tensor) -> torch.Tensor:
    """Logits of a tree of tokens behind what is cached, at positions by depth."""
    length = cache.get_seq_length()
    depths = torch.tensor([0, 1, 1, 2, 2, 2, 3])
    seen = torch.cat([torch.ones(len(mask), length, dtype=torch.bool), mask], dim=1)[None, None]
    text: Any = model.model.language_model
    rows = 3 if model.config.model_type == "qwen2_5_vl" else 1
    positions = (length + depths)[None] if rows == 1 else (length + depths).expand(rows, 1, -1)
    hidden = text(
        input_ids=torch.tensor([[11, 12, 13, 14, 15, 16, 17]]), position_ids=positions, attention_mask=seen,
        use_cache=True, **with_cache(text.forward, cache),
    ).last_hidden_state  # fmt: skip
    return model.lm_head(hidden)


@pytest.mark.usefixtures("exact_norms")
def test_a_prompt_with_video_has_the_small_models_logits(pair):
    model, widened = pair
    assert difference(model, prefill(model), prefill(widened)) < CLOSE


@pytest.mark.usefixtures("exact_norms")
@torch.no_grad()
def test_tokens_one_by_one_behind_a_cache_have_the_small_models_logits(pair):
    model, _ = pair
    caches = [DynamicCache(config=each.config) for each in pair]
    for each, cache in zip(pair, caches, strict=True):
        prefill(each, cache)
    for token in (21, 33, 8, 250):
        logits = [
            each(input_ids=torch.tensor([[token]]), use_cache=True, **with_cache(each.forward, cache)).logits
            for each, cache in zip(pair, caches, strict=True)
        ]
        assert difference(model, *logits) < CLOSE


@pytest.mark.usefixtures("exact_norms")
def test_a_tree_behind_a_cache_has_the_small_models_logits(pair):
    model, _ = pair
    tree, chain = ancestor_mask(PARENTS), torch.ones(7, 7, dtype=torch.bool).tril()
    logits = {}
    for name, mask in (("tree", tree), ("chain", chain)):
        caches = [DynamicCache(config=each.config) for each in pair]
        for each, cache in zip(pair, caches, strict=True):
            prefill(each, cache)
        logits[name] = [tree_step(each, cache, mask) for each, cache in zip(pair, caches, strict=True)]
        assert difference(model, *logits[name]) < CLOSE
    assert difference(model, logits["tree"][0], logits["chain"][1]) > 1e-3, "the mask made no difference"


@pytest.mark.parametrize("case", CASES)
def test_stock_generate_says_the_same(case):
    model, widened = small(CASES[case][0]), wide(case)
    answers = [
        each.generate(**inputs(each), do_sample=False, max_new_tokens=24, min_new_tokens=24)[0].tolist()
        for each in (model, widened)
    ]
    assert answers[0] == answers[1]
    assert len(set(answers[0][-24:])) > 1


REAL = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm")  # fmt: skip
WRONG = (
    *(f"model.language_model.layers.0.{part}.weight" for part in REAL),
    "model.language_model.norm.weight",
    "model.language_model.embed_tokens.weight",
    "lm_head.weight",
)


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("case", ["llava, " + LONG_HEADS.name, "qwen, " + MORE_KV.name])
def test_an_error_of_a_hundredth_in_one_matrix_shows(case, name):
    family, shape = CASES[case]
    widened = widen(small(family), shape, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weight = widened.get_parameter(name)
        weight *= 1 + 0.01 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    assert difference(small(family), prefill(small(family)), prefill(widened)) > 1e-3


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("slip", ["theta", "epsilon", "sections"])
def test_a_slip_in_the_config_shows(slip, monkeypatch):
    shape = replace(LONG_HEADS, layers=4)
    widened: Any = widen(small("qwen2_5_vl"), shape, dtype=torch.float64)
    text = widened.model.language_model
    if slip == "theta":
        text.rotary_emb.inv_freq *= 1.01
    if slip == "sections":
        text.rotary_emb.mrope_section = [2, 4, 2]
    if slip == "epsilon":
        text.norm.variance_epsilon *= 1000
    assert difference(small("qwen2_5_vl"), prefill(small("qwen2_5_vl")), prefill(widened)) > CLOSE


@pytest.mark.parametrize("case", ["llava, " + SAME_HEADS.name, "llava, tied", "qwen, tied"])
def test_added_vocabulary_is_out_of_the_question(case):
    model, widened = small(CASES[case][0]), wide(case)
    tokens = model.config.text_config.vocab_size
    logits = prefill(widened)
    assert logits.shape[-1] == CASES[case][1].vocabulary > tokens
    assert logits[..., tokens:].max() < -1e6
    assert logits.softmax(-1)[..., tokens:].sum() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_added_vocabulary_is_out_of_the_question_in_fewer_digits(dtype):
    widened = widen(small("llava_onevision"), SAME_HEADS, dtype=dtype)
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs(widened).items()}
    with torch.no_grad():
        logits = widened(**given).logits
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    assert logits[..., 320:].max() < -1e6


def test_attention_keeps_its_order_for_a_pruner():
    orders = []
    for each in (small("llava_onevision"), wide("llava, " + SAME_HEADS.name)):
        video = inputs(each)["input_ids"][0] == each.config.video_token_index
        each.set_attn_implementation("eager")
        with torch.no_grad():
            attentions = each(**inputs(each), output_attentions=True).attentions
        each.set_attn_implementation("sdpa")
        scores = torch.stack(attentions).mean((0, 1, 2))[-10:, video].mean(0)
        orders.append(scores.argsort().tolist())
    assert orders[0] == orders[1]


@pytest.mark.parametrize("role", POCKET_SHAPES)
def test_the_pocket_pair_answers_as_before(role):
    model = pocket_model(role, torch.float32)
    widened = widen(model, POCKET_SHAPES[role], dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        film = pocket.demo_video(Path(folder) / "film.mp4")
        answers = [
            specvlm.load(each).autoregressive(film, QUESTION, num_frames=8, max_new_tokens=24)
            for each in (model, widened)
        ]
    assert len(answers[0].token_ids) == 24
    assert answers[0].token_ids == answers[1].token_ids


@pytest.mark.parametrize("case", CASES)
def test_the_shape_is_exactly_the_one_that_was_asked_for(case):
    model, widened = small(CASES[case][0]), wide(case)
    shape = CASES[case][1]
    language = torch.nn.ModuleList([widened.model.language_model, widened.lm_head])
    assert Shape.of(shape.name, widened.config) == shape
    assert sum(weight.numel() for weight in language.parameters()) == shape.num_parameters
    assert type(widened) is type(model)
    assert not widened.training
    assert widened.name_or_path == model.name_or_path
    assert widened.generation_config.to_dict() == model.generation_config.to_dict()
    assert not any(tensor.is_meta for tensor in widened.state_dict().values())
    assert not any(buffer.is_meta for buffer in widened.buffers())


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
def test_the_small_model_is_left_as_it_was(family):
    model = tiny.model(family)
    before = tiny.fingerprint(model)
    widen(model, SAME_HEADS, dtype=torch.float32)
    assert tiny.fingerprint(model) == before


def test_one_seed_gives_one_model_and_another_seed_another():
    first, again, other = (widen(tiny.llava_model(), SAME_HEADS, seed=seed) for seed in (0, 0, 1))
    weights = [each.model.language_model.layers[4].mlp.down_proj.weight for each in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"layers": 2}, "2 layers"),
        ({"hidden": 32, "heads": 4}, "hidden size is 32"),
        ({"ffn": 63}, "63 ffn"),
        ({"vocabulary": 319}, "319 vocabulary"),
        ({"head_dim": 4, "heads": 28}, "head_dim is 4"),
        ({"kv_heads": 14}, "fewer than 2 query heads"),
        ({"kv_heads": 1}, "1 kv_heads"),
        ({"tied": True}, "embedding table"),
        ({"head_dim": 16}, "divides its hidden size"),
    ],
)
def test_what_does_not_fit_is_refused(change, complaint):
    with pytest.raises(ModelError, match=complaint):
        widen(small("llava_onevision"), replace(SAME_HEADS, **change))


def test_what_is_not_known_is_refused():
    with pytest.raises(ModelError, match="qwen3_vl can't be widened, only llava_onevision, qwen2_5_vl"):
        widen(tiny.model("qwen3_vl"), SAME_HEADS)
    with pytest.raises(OptionError, match="float16"):
        widen(small("llava_onevision"), SAME_HEADS, dtype=torch.float16)
    model = tiny.llava_model()
    model.config.text_config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    with pytest.raises(ModelError, match="'linear'"):
        widen(model, SAME_HEADS)


@pytest.mark.parametrize(("head_dim", "wide_head_dim"), [(8, 8), (8, 16), (64, 128), (16, 64)])
def test_every_rotary_pair_goes_where_its_frequency_is(head_dim, wide_head_dim):
    def frequencies(dim: int) -> torch.Tensor:
        return 1 / 10_000 ** (torch.arange(0, dim, 2) / dim)

    places = rotary_places(head_dim, wide_head_dim)
    assert len(set(places.tolist())) == head_dim
    first, second = places.chunk(2)
    assert torch.equal(second - first, torch.full_like(first, wide_head_dim // 2))
    assert torch.equal(frequencies(wide_head_dim)[first], frequencies(head_dim))
