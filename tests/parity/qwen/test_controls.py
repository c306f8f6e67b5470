"""Negative controls of what Qwen-VL adds: break one thing on purpose, and the comparison with stock must notice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest
import torch

import tiny
from parity.pairs import every_family, pair
from parity.scenes import SCENES, Scene
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.decoder import Embeds
from specvlm.families import Family
from specvlm.families.decoder import HFDecoder
from specvlm.families.releases import cache_in
from specvlm.pipeline import SpecVLM
from specvlm.prompts.prompt import Prompt

FULL = {"pruning_ratio": 0.0, "tree": "paper", "max_new_tokens": 31}
deep_families = pytest.mark.parametrize("family", ["qwen3_vl", pytest.param("qwen3_vl_moe", marks=pytest.mark.parity)])


def vlm(family: str, name: str = "close") -> SpecVLM:
    return pair(name, torch.float64, family)


@lru_cache
def right(family: str, scene: str, seed: int) -> tuple[int, ...]:
    """By stock generate, which no control breaks: it reads what the processor made."""
    asked = SCENES[scene](seed)
    return vlm(family).autoregressive(asked.video, "what happens?", max_new_tokens=31, **asked.media).token_ids


def differs(family: str, scene: str = "video and image", name: str = "close") -> bool:
    """Is one of 3 answers not stock generate's?"""
    return any(
        answer(vlm(family, name), SCENES[scene](seed)).token_ids != right(family, scene, seed) for seed in range(3)
    )


def answer(model: SpecVLM, scene: Scene):
    return model.generate(scene.video, "what happens?", **FULL, **scene.media)


def flawless(family: str, scene: str = "video and image") -> bool:
    """Was a draft with the target's weights right at each depth of the tree, in each round but an answer's last?"""
    answers = [answer(vlm(family, "twin"), SCENES[scene](seed)) for seed in range(3)]
    whole = [given for given in answers if given.finish_reason == "length"]
    assert whole
    return all(given.stats.accepted_per_depth == [5] * 5 for given in whole)


def spoil_prompt(monkeypatch: pytest.MonkeyPatch, family: str, change: Callable[[Family, Prompt], Prompt]) -> None:
    """What the family prepares is wrong; what the processor made, and so what stock generate reads, is not."""
    kind = type(vlm(family).target)
    prepare = kind.prepare
    monkeypatch.setattr(kind, "prepare", lambda self, *args, **kwargs: change(self, prepare(self, *args, **kwargs)))


def spoil_embeds(monkeypatch: pytest.MonkeyPatch, change: Callable[[Embeds], Embeds], of: object = None) -> None:
    """The language model reads something else; `of` one decoder, or of all."""
    prefill = HFDecoder.prefill
    monkeypatch.setattr(
        HFDecoder,
        "prefill",
        lambda self, embeds, *args: prefill(self, change(embeds) if of in (None, self) else embeds, *args),
    )


@contextmanager
def node_positions(family: str, change: Callable[[torch.Tensor], torch.Tensor], name: str = "close") -> Iterator[None]:
    """Our steps behind the prompt stand at other positions [3, 1, nodes]; those of stock generate don't."""

    def hook(module, args, kwargs):
        cache = cache_in(kwargs)
        if isinstance(cache, TreeCache) and cache.length > 0:
            kwargs["position_ids"] = change(kwargs["position_ids"])
        return args, kwargs

    language_model = vlm(family, name).target.model.model.language_model
    handle = language_model.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def replace_positions(prompt: Prompt, positions: torch.Tensor) -> Prompt:
    return dataclasses.replace(prompt, position_ids=positions, next_position=int(positions[0, -1]) + 1)


@pytest.mark.part(2)
@pytest.mark.parametrize("scene", SCENES)
@every_family
def test_unbroken_nothing_differs(family: str, scene: str) -> None:
    """The control of the controls."""
    assert not differs(family, scene)


@every_family
def test_a_plain_range_in_place_of_m_rope(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """What the paper's public code does to Qwen2.5-VL."""
    spoil_prompt(
        monkeypatch, family, lambda _, prompt: replace_positions(prompt, torch.arange(prompt.num_tokens).expand(3, -1))
    )
    assert differs(family)


@pytest.mark.parametrize("rows", [[0, 2, 1], [1, 0, 2], [0, 0, 0]], ids=["h and w", "t and h", "t alone"])
@every_family
def test_rows_that_are_mixed_up(monkeypatch: pytest.MonkeyPatch, family: str, rows: list[int]) -> None:
    spoil_prompt(monkeypatch, family, lambda _, prompt: replace_positions(prompt, prompt.position_ids[rows]))
    assert differs(family)


@every_family
def test_an_answer_that_stands_behind_as_many_positions_as_tokens(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """`rope_deltas` forgotten."""
    spoil_prompt(monkeypatch, family, lambda _, prompt: dataclasses.replace(prompt, next_position=prompt.num_tokens))
    assert differs(family)


def slow_answer_differs() -> bool:
    scene = Scene(tiny.film(12, 1, fps=0.25), {})
    stock = vlm("qwen2_5_vl").autoregressive(scene.video, "what happens?", max_new_tokens=31)
    return answer(vlm("qwen2_5_vl"), scene).token_ids != stock.token_ids


def test_an_answer_that_stands_behind_the_greatest_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a slow video of Qwen2.5-VL that is the last frame's; stock generate goes on from the last word's."""
    assert not slow_answer_differs()
    spoil_prompt(
        monkeypatch,
        "qwen2_5_vl",
        lambda _, prompt: dataclasses.replace(prompt, next_position=int(prompt.position_ids.max()) + 1),
    )
    assert slow_answer_differs()


def test_a_clock_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`second_per_grid_ts` forgotten: every temporal patch would take a second."""

    def without_clock(family: Family, prompt: Prompt) -> Prompt:
        inputs = {name: value for name, value in prompt.model_inputs.items() if name != "second_per_grid_ts"}
        return replace_positions(prompt, family.prompt_from_inputs(inputs).position_ids)

    spoil_prompt(monkeypatch, "qwen2_5_vl", without_clock)
    assert differs("qwen2_5_vl", "two videos")


@pytest.mark.parametrize(
    "change",
    [
        lambda positions: positions * torch.tensor([1, 0, 0])[:, None, None],
        lambda positions: torch.cat([positions[:1], positions[1:, :, :1].expand(2, -1, positions.shape[2])]),
    ],
    ids=["time alone", "depth in time alone"],
)
@every_family
def test_tree_nodes_without_all_three_rows(family: str, change: Callable) -> None:
    with node_positions(family, change):
        assert differs(family)


@every_family
def test_an_image_taken_for_a_frame(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Both have 6 tokens here, and only their pixels tell them apart."""

    def swapped(_: Family, prompt: Prompt) -> Prompt:
        frames = prompt.frame_ids
        image, first = frames[-1], frames[0]
        swapped = torch.where(frames == image, first, torch.where(frames == first, image, frames))
        return dataclasses.replace(prompt, frame_ids=swapped)

    spoil_prompt(monkeypatch, family, swapped)
    assert differs(family)


@every_family
def test_places_of_a_frame_out_of_order(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """As when the windows of Qwen2.5-VL's tower aren't put back in order."""

    def shuffled(_: Family, prompt: Prompt) -> Prompt:
        places = prompt.place_ids.clone()
        places[:6] = places[:6].flip(0)
        return dataclasses.replace(prompt, place_ids=places)

    spoil_prompt(monkeypatch, family, shuffled)
    assert differs(family)


def shifted(embeds: Embeds) -> Embeds:
    return embeds if embeds.deep is None else dataclasses.replace(embeds, deep=embeds.deep.roll(1, dims=1))


def exchanged(embeds: Embeds) -> Embeds:
    return embeds if embeds.deep is None else dataclasses.replace(embeds, deep=embeds.deep.flip(0))


@pytest.mark.parametrize(
    "change", [shifted, exchanged, lambda embeds: Embeds(embeds.rows)], ids=["shifted", "exchanged", "left out"]
)
@deep_families
def test_deeper_features_at_the_wrong_token_or_layer(
    monkeypatch: pytest.MonkeyPatch, family: str, change: Callable
) -> None:
    spoil_embeds(monkeypatch, change)
    assert differs(family)


@every_family
def test_a_perfect_draft_is_right_at_every_depth(family: str) -> None:
    """The control of those below: 5 of 5, with the bonus 6 tokens a round."""
    for scene in SCENES:
        assert flawless(family, scene)


@deep_families
def test_deeper_features_of_the_draft_at_the_wrong_token_cost_acceptance_alone(
    monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    draft = vlm(family, "twin").draft
    assert isinstance(draft, Family)
    spoil_embeds(monkeypatch, shifted, of=draft.decoder)
    assert not differs(family, name="twin")
    assert not flawless(family)


@pytest.mark.parity
@pytest.mark.parametrize("positions", ["plain", "late"])
@every_family
def test_wrong_positions_of_the_draft_cost_acceptance_alone(
    monkeypatch: pytest.MonkeyPatch, family: str, positions: str
) -> None:
    prune = Prompt.prune

    def pruned(self: Prompt, *args: object) -> Prompt:
        prompt = prune(self, *args)
        if positions == "late":
            return dataclasses.replace(prompt, next_position=prompt.next_position + 7)
        return replace_positions(prompt, torch.arange(prompt.num_tokens).expand(3, -1))

    monkeypatch.setattr(Prompt, "prune", pruned)
    assert not differs(family, name="twin")
    assert not flawless(family)
