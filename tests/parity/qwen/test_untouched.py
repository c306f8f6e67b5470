"""Whatever is asked and however it ends, both models are as their owner left them: `rope_deltas` too."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import specvlm
import tiny
from parity.pairs import every_family
from specvlm.families import Family
from specvlm.pipeline import SpecVLM

FILM, IMAGE, OPTIONS = tiny.film(5), tiny.image(), {"max_new_tokens": 12, "pruning_ratio": 0.5}
MEDIA: dict[str, Any] = {"more_videos": (tiny.film(4, 1),), "images": (IMAGE,)}


def fresh(family: str, draft: str) -> SpecVLM:
    """A pair of its own, whose models remember what their owner last did with them."""
    target = tiny.model(family)
    made = tiny.pair(target, "self" if draft == "self" else tiny.noised(target, 0.02))
    for number, model in enumerate(models(made)):
        model.model.rope_deltas = torch.tensor([[40 + number]])
    return made


def models(vlm: SpecVLM) -> list[Any]:
    return [side.model for side in (vlm.target, vlm.draft) if isinstance(side, Family)]


def generate(vlm: SpecVLM) -> None:
    vlm.generate(FILM, "what happens?", **OPTIONS, **MEDIA)


def sample(vlm: SpecVLM) -> None:
    vlm.generate(FILM, "what happens?", **OPTIONS, do_sample=True, seed=1, stop=("xyz",))


def text_alone(vlm: SpecVLM) -> None:
    vlm.generate(None, "what happens?", **OPTIONS)


def stream_to_the_end(vlm: SpecVLM) -> None:
    assert "".join(vlm.stream(FILM, "what happens?", **OPTIONS)) is not None


def stream_and_leave(vlm: SpecVLM) -> None:
    pieces = vlm.stream(FILM, "what happens?", **OPTIONS)
    next(pieces)
    pieces.close()


def autoregressive(vlm: SpecVLM) -> None:
    vlm.autoregressive(FILM, "what happens?", max_new_tokens=12, stop=("xyz",), **MEDIA)


def compare(vlm: SpecVLM) -> None:
    assert len(vlm.compare(FILM, "what happens?", **OPTIONS).arms) > 1


def fail_half_way(vlm: SpecVLM) -> None:
    full: list[bool] = []

    def broken(*_: object) -> None:
        if full:
            raise RuntimeError("no memory left")

    layer = vlm.target.model.model.language_model.layers[1].self_attn
    handle = layer.register_forward_hook(broken)
    try:
        vlm.generate(FILM, "what happens?", **OPTIONS)  # a hook that is new is tried out before an answer
        full.append(True)
        for answer in (vlm.generate, vlm.autoregressive):
            with pytest.raises(RuntimeError, match="no memory left"):
                answer(FILM, "what happens?", **OPTIONS)
    finally:
        handle.remove()


@pytest.mark.part(2)
@pytest.mark.parametrize("draft", ["close", "self"])
@pytest.mark.parametrize(
    "use",
    [generate, sample, text_alone, stream_to_the_end, stream_and_leave, autoregressive, compare, fail_half_way],
    ids=lambda use: use.__name__,
)
@every_family
def test_models_are_left_as_they_were_found(family: str, use: Any, draft: str) -> None:
    vlm = fresh(family, draft)
    deltas, before = [model.model.rope_deltas for model in models(vlm)], [tiny.fingerprint(m) for m in models(vlm)]
    use(vlm)
    assert [tiny.fingerprint(model) for model in models(vlm)] == before
    assert all(model.model.rope_deltas is delta for model, delta in zip(models(vlm), deltas, strict=True))


@every_family
def test_a_model_that_was_never_used_still_is(family: str) -> None:
    """`rope_deltas` that weren't there don't appear."""
    vlm = fresh(family, "close")
    for model in models(vlm):
        model.model.rope_deltas = None
    generate(vlm)
    autoregressive(vlm)
    assert [model.model.rope_deltas for model in models(vlm)] == [None, None]


@every_family
def test_what_the_owner_did_before_does_not_change_the_answer(family: str) -> None:
    vlm = fresh(family, "close")
    first = vlm.generate(FILM, "what happens?", **OPTIONS).token_ids
    for stale in (None, torch.tensor([[0]]), torch.tensor([[-999]])):
        vlm.target.model.model.rope_deltas = stale
        assert vlm.generate(FILM, "what happens?", **OPTIONS).token_ids == first
        assert vlm.autoregressive(FILM, "what happens?", max_new_tokens=12).token_ids == first


@every_family
def test_the_drop_in_leaves_what_generate_leaves(family: str) -> None:
    """That call is the owner's own, and stock `generate` notes `rope_deltas` in it. The draft is nobody's business."""
    vlm = fresh(family, "close")
    target, draft = models(vlm)
    inputs = vlm.target.prepare([FILM], "what happens?").model_inputs
    target.generate(**inputs, max_new_tokens=8)
    before = [tiny.fingerprint(model) for model in (target, draft)]
    target.generate(**inputs, max_new_tokens=8, custom_generate=specvlm.custom_generate, draft_model=draft)
    assert [tiny.fingerprint(model) for model in (target, draft)] == before
