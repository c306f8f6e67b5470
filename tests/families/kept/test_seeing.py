"""What a tower made of frames is used again for the same frames, seen together by the same tower; and for no others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module

import tiny
from specvlm.families import Family
from specvlm.families.base import Seen
from specvlm.families.kept import circumstances
from specvlm.families.kept.circumstances import of_preparing, of_seeing
from specvlm.families.kept.seeing import seen
from specvlm.families.sights import Sights
from specvlm.prompts.album import Album
from specvlm.prompts.disk import Disk
from specvlm.prompts.prompt import Prompt

FAMILIES = ["llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The frames of every look that a tower takes."""
    taken: list[list[int]] = []
    for owner in {type(tiny.family(tiny.model(name))) for name in FAMILIES}:
        see = owner.see

        def counting(self: Family, prompt: Prompt, see: Callable[..., Seen] = see) -> Seen:
            found = see(self, prompt)
            taken.append(found.frame_ids.tolist())
            return found

        monkeypatch.setattr(owner, "see", counting)
    return taken


def asked(family: Family, folder: Path, clips: str = "film") -> Prompt:
    prompt = family.prepare([tiny.film(6, 1)], "what happens?")
    vars_of = {name: getattr(prompt, name) for name in prompt.__dataclass_fields__}
    return Prompt(**vars_of | {"album": Album(Disk(folder, 1 << 30), "f", clips)})


def same(one: Seen, other: Seen) -> bool:
    """To the bit, in dtype and place too."""
    pairs = [*zip(one.states, other.states, strict=True), (one.frame_ids, other.frame_ids), (one.sizes, other.sizes)]
    return all(a.dtype == b.dtype and a.device == b.device and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILIES)
def test_another_model_with_the_same_weights_needn_t_look(
    name: str, dtype: torch.dtype, looks: list, tmp_path: Path
) -> None:
    """Deep features of Qwen3-VL too."""
    first, second = (tiny.family(tiny.model(name, dtype=dtype)) for _ in range(2))
    made = seen(first, asked(first, tmp_path))
    found = seen(second, asked(second, tmp_path))
    assert len(looks) == 1
    assert same(made, found)
    assert len(found.states) == (1 if name != "qwen3_vl" else 1 + len(first.model.model.visual.deepstack_merger_list))
    prompt = asked(first, tmp_path)
    assert torch.equal(first.embed(prompt, made).rows, second.embed(prompt, found).rows)


def test_a_part_is_not_taken_for_the_whole(looks: list, tmp_path: Path) -> None:
    """In other company a frame may be rounded otherwise: a target sees all frames at once, as stock does."""
    family = tiny.family(tiny.model("qwen2_5_vl"))
    prompt = asked(family, tmp_path)
    part = prompt.prune((prompt.frame_ids == 1).nonzero()[:, 0], "original")
    seen(family, part)
    seen(family, prompt)
    assert looks == [[1], [0, 1, 2]]
    for again in (part, prompt):
        seen(family, again)
    assert len(looks) == 2


def test_sights_ask_for_what_they_lack(looks: list, tmp_path: Path) -> None:
    family = tiny.family(tiny.model("qwen2_5_vl"))
    for _ in range(2):
        prompt, sights = asked(family, tmp_path), Sights()
        sights.of(family, prompt.prune((prompt.frame_ids == 1).nonzero()[:, 0], "original"))
        whole = sights.of(family, prompt)
        assert whole.frame_ids.tolist() == [0, 1, 2]
    assert looks == [[1], [0, 2]]


def _train(family: Family) -> None:
    with torch.no_grad():
        next(family.tower[0].parameters()).mul_(1.001)


def _exchange(family: Family) -> None:
    family.model.model.visual.blocks[0].mlp.act_fn = torch.nn.ReLU()


def _configure(family: Family) -> None:
    family.model.config.vision_config.hidden_act = "gelu"


OTHERS: dict[str, Callable[[Family], Any]] = {
    "weights": _train,
    "code": _exchange,
    "config": _configure,
    "attention": lambda family: family.model.set_attn_implementation("eager"),
    "dtype": lambda family: family.model.to(torch.bfloat16),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_tower_looks_for_itself(what: str, looks: list, tmp_path: Path) -> None:
    family = tiny.family(tiny.model("qwen2_5_vl"))
    seen(family, asked(family, tmp_path))
    OTHERS[what](family)
    found = seen(family, asked(family, tmp_path))
    assert len(looks) == 2
    assert same(found, family.see(asked(family, tmp_path)))


def test_other_clips_threads_and_switches_are_others(looks: list, tmp_path: Path) -> None:
    family = tiny.family(tiny.model("qwen2_5_vl"))
    threads = torch.get_num_threads()
    seen(family, asked(family, tmp_path))
    seen(family, asked(family, tmp_path, clips="another"))
    try:
        torch.set_num_threads(threads + 1)
        seen(family, asked(family, tmp_path))
    finally:
        torch.set_num_threads(threads)
    with torch.autocast("cpu", torch.bfloat16):
        seen(family, asked(family, tmp_path))
    assert len(looks) == 4
    seen(family, asked(family, tmp_path))
    assert len(looks) == 4


def _hook(family: Family) -> Any:
    return family.tower[-1][0].register_forward_hook(lambda part, given, made: made * 1.5)


class Louder(ModelHook):
    def post_forward(self, module: Any, output: Any) -> Any:
        return output * 1.5


def _adapt(family: Family) -> None:
    config = peft.LoraConfig(r=2, target_modules=r".*visual.*qkv", init_lora_weights=False)
    peft.inject_adapter_in_model(config, family.model)
    family.model.eval()


UNTOLD: dict[str, Callable[[Family], Any]] = {
    "somebody's hook": _hook,
    "adapters": _adapt,
    "training": lambda family: family.model.train(),
    "offloaded": lambda family: family.tower[0].to("meta"),
    "a hook of accelerate's kind": lambda family: add_hook_to_module(family.tower[-1][0], Louder()),
    "a forward put in": lambda family: setattr(family.tower[-1][0], "forward", nullcontext),
}


@pytest.mark.parametrize("what", UNTOLD)
def test_of_a_tower_that_can_t_be_told_nothing_is_kept(what: str) -> None:
    family = tiny.family(copy.deepcopy(tiny.model("qwen2_5_vl")))
    assert of_seeing(family) is not None
    UNTOLD[what](family)
    assert of_seeing(family) is None


def test_code_of_others_is_unknown() -> None:
    class Mine(torch.nn.Identity):
        pass

    family = tiny.family(tiny.model("qwen2_5_vl"))
    family.model.model.visual.blocks[0].mlp.act_fn = Mine()
    assert of_seeing(family) is None


def test_weights_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    family = tiny.family(tiny.model("qwen2_5_vl"))
    first = of_seeing(family)
    monkeypatch.setattr(circumstances, "_digest", lambda weights: pytest.fail("hashed again"))
    assert of_seeing(family) == first


def test_preparing_hangs_on_processor_and_tokenizer() -> None:
    family = tiny.family(tiny.model("qwen2_5_vl"))
    facts = [of_preparing(family)]
    family.video_processor.image_mean = [0.4, 0.5, 0.5]
    facts.append(of_preparing(family))
    family.tokenizer.add_tokens(["<mine>"])
    facts.append(of_preparing(family))
    assert all(one != other for number, one in enumerate(facts) for other in facts[:number])
    assert of_preparing(family) == facts[-1]
