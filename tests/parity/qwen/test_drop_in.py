"""`model.generate(**inputs, custom_generate=specvlm.custom_generate)` of Qwen-VL models against the call without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

import specvlm
import tiny
from parity.pairs import draft, every_family, target
from specvlm import OptionError, Stats
from specvlm.pruning import PRUNERS


def inputs(family: str, films: int = 1, images: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """What a checkpoint's own processor makes of them, the images in front."""
    processor = tiny.processor(family)
    content = [{"type": "image"}] * images + [{"type": "video"}] * films + [{"type": "text", "text": "what happens?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    more: dict[str, Any] = {}
    if films:
        clips = [tiny.film(4 + 2 * number, number, height=20 + 12 * number) for number in range(films)]
        more["videos"] = [np.array(clip.frames) for clip in clips]
        more["video_metadata"] = [
            {"total_num_frames": len(clip.frames), "fps": 1.7, "frames_indices": list(range(len(clip.frames)))}
            for clip in clips
        ]
    if images:
        more["images"] = [tiny.image(number) for number in range(images)]
    return dict(processor(text=[text], do_sample_frames=False, return_tensors="pt", **more).to(dtype))


@pytest.fixture
def same(record_property):
    """`same(family, inputs, draft, ours, **kwargs)`: tokens and Stats, after comparing tokens and random state."""
    compared = 0

    def compare(family: str, given: dict, name: str = "close", ours: dict | None = None, **kwargs: Any) -> Any:
        nonlocal compared
        dtype = next((value.dtype for key, value in given.items() if key.startswith("pixel_values")), torch.float32)
        model, kwargs = target(dtype, family), {"max_new_tokens": 24} | kwargs
        torch.manual_seed(3)
        right = model.generate(**given, **kwargs)
        state, deltas = torch.get_rng_state(), model.model.rope_deltas.tolist()
        torch.manual_seed(3)
        guessing = "self" if name == "self" else draft(name, dtype, family)
        stats = Stats()
        answer = model.generate(
            **given,
            **kwargs,
            custom_generate=specvlm.custom_generate,
            draft_model=guessing,
            stats=stats,
            **{"pruning_ratio": 0.5} | (ours or {}),
        )
        compared += 1
        assert answer.tolist() == right.tolist()
        assert torch.equal(torch.get_rng_state(), state)
        assert model.model.rope_deltas.tolist() == deltas
        return answer[0, given["input_ids"].shape[1] :].tolist(), stats

    yield compare
    record_property("compared", compared)
    record_property("different", 0)


PROMPTS = {"text": (0, 0), "a video": (1, 0), "two videos": (2, 0), "an image": (0, 1), "a video, images": (1, 2)}


@pytest.mark.part(2)
@pytest.mark.parametrize("prompt", PROMPTS)
@every_family
def test_same_tokens_greedy_and_sampled(same, family, prompt):
    films, images = PROMPTS[prompt]
    given = inputs(family, films, images)
    accepted = 0
    for kwargs in ({}, {"do_sample": True, "temperature": 0.6}, {"repetition_penalty": 1.2}):
        _, stats = same(family, given, "twin", **kwargs)
        accepted += stats.num_accepted
        assert (stats.num_video_tokens > 0) == (prompt != "text")
    assert accepted > 0


@every_family
def test_same_tokens_in_float64(same, family):
    for kwargs in ({}, {"do_sample": True}):
        _, stats = same(family, inputs(family, 2, 1, torch.float64), "twin", {"pruning_ratio": 0.0}, **kwargs)
        assert stats.num_accepted > 0


@pytest.mark.parity
@pytest.mark.parametrize("pruner", sorted(PRUNERS))
@every_family
def test_same_tokens_whatever_the_draft_sees(same, family, pruner):
    given = inputs(family, 1, 1)
    for number, name in enumerate(("close", "self")):
        ours = {"pruner": pruner, "pruning_ratio": 0.75, "prune_images": bool(number)}
        _, stats = same(family, given, name, ours)
        assert stats.num_drafted > 0


@every_family
def test_left_padding_is_no_part_of_the_prompt(same, family):
    """Its ids are those of padding, hidden by the mask; positions are counted without it."""
    given = inputs(family, 2, 1)
    names = ("input_ids", "attention_mask", "mm_token_type_ids")
    padded = given | {name: pad(given[name], (5, 0)) for name in names}
    tokens, stats = same(family, padded)
    assert tokens == same(family, given)[0]
    assert stats.num_prompt_tokens == given["input_ids"].shape[1]
    assert same(family, padded, "self")[0] == tokens


@every_family
def test_a_prompt_that_ends_inside_a_clip_is_refused(family):
    """No text stands behind it, and in each of the three rows the answer would go on from another place."""
    model, given = target(family=family), inputs(family, 1, 0)
    end = int((given["input_ids"][0] == model.config.video_token_id).nonzero()[-1]) + 1
    cut = given | {name: given[name][:, :end] for name in ("input_ids", "attention_mask", "mm_token_type_ids")}
    with pytest.raises(OptionError, match=f"a prompt of {family} must end with text"):
        model.generate(**cut, custom_generate=specvlm.custom_generate, max_new_tokens=4)


@every_family
def test_times_may_come_as_a_list(same, family):
    """As older processors return them."""
    given = inputs(family)
    if "second_per_grid_ts" in given:
        given["second_per_grid_ts"] = [float(seconds) for seconds in given["second_per_grid_ts"]]
    same(family, given)


@every_family
def test_the_tower_runs_once_a_model(family):
    """`generate` may run it for the target before we do: then its result is refused or used, never doubled."""
    runs: list[str] = []
    models = {"target": target(family=family), "draft": draft("close", family=family)}
    hooks = [
        model.model.visual.register_forward_pre_hook(lambda *_, name=name: runs.append(name))
        for name, model in models.items()
    ]
    try:
        models["target"].generate(
            **inputs(family, 2),
            max_new_tokens=5,
            custom_generate=specvlm.custom_generate,
            draft_model=models["draft"],
            pruner="uniform",
        )
    finally:
        for hook in hooks:
            hook.remove()
    assert sorted(runs) == ["draft", "target"]


@every_family
def test_a_batch_is_refused(family):
    given = inputs(family, 0)
    doubled = {name: value.repeat(2, 1) for name, value in given.items()}
    with pytest.raises(OptionError, match="not a batch of 2"):
        target(family=family).generate(**doubled, max_new_tokens=5, custom_generate=specvlm.custom_generate)


@every_family
def test_positions_of_the_callers_own_are_refused(family):
    given = inputs(family)
    positions: Tensor = 1 + torch.arange(given["input_ids"].shape[1]).expand(4, 1, -1)
    with pytest.raises(OptionError, match="position_ids can't be given"):
        target(family=family).generate(
            **given, position_ids=positions, max_new_tokens=5, custom_generate=specvlm.custom_generate
        )
