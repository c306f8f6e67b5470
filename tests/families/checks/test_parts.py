"""Parts that are called in place of the whole, and what was made of them: as stock generate of the same object has it
today, or refused by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import peft
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

import specvlm
import tiny
from specvlm import ModelError, Options, SpecVLM
from specvlm.answering.placing import place
from specvlm.families.checks.strangers import is_known_code

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated", "ignore:Merge|:UserWarning")

ASKED: dict[str, Any] = {"max_new_tokens": 10, "do_sample": False, "pruning_ratio": 0.5}
QUESTIONS = ("what happens?", "what does the ball do?")
DEVICE = Options(rounds="device")


def right(vlm: SpecVLM, question: str = QUESTIONS[0]) -> tuple[int, ...]:
    return vlm.autoregressive(tiny.film(6, 1), question, **ASKED).token_ids


def said(vlm: SpecVLM, **more: Any) -> tuple[int, ...]:
    return vlm.generate(tiny.film(6, 1), QUESTIONS[0], **ASKED, **more).token_ids


def small(family: str = "llava_onevision") -> tuple[Any, SpecVLM]:
    target = tiny.model(family, 0, layers=2)
    return target, tiny.pair(target, tiny.noised(target, 0.01))


def turned(_: Any, given: Any, output: Any) -> Any:
    """Each row by itself becomes another one."""
    if isinstance(output, torch.Tensor):
        return output.roll(1, dims=-1)
    name = "last_hidden_state" if "logits" not in output else "logits"
    output[name] = output[name].roll(1, dims=-1)
    return output


def text_of(model: Any) -> Any:
    return model.model.language_model


def adapters(model: Any) -> Iterator[None]:
    """LoRA, DoRA, on head and embedding too: added, switched, merged, taken out."""
    lora = {"r": 4, "lora_alpha": 32, "init_lora_weights": False}
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "lm_head"], **lora)).eval()
    yield
    adapted.add_adapter("dora", peft.LoraConfig(target_modules=["v_proj"], use_dora=True, **lora))
    adapted.add_adapter("words", peft.LoraConfig(target_modules=["embed_tokens"], **lora))
    for name in ("dora", "words"):
        adapted.set_adapter(name)
        adapted.eval()
        yield
    adapted.merge_adapter()
    yield
    adapted.unmerge_adapter()
    adapted.set_adapter("dora")
    adapted.merge_and_unload(adapter_names=["dora"])
    yield


def replaced(model: Any) -> Iterator[None]:
    other: Any = tiny.model(model.config.model_type, 7, layers=2)
    for change in (model.set_output_embeddings, model.set_input_embeddings):
        change(other.lm_head if change == model.set_output_embeddings else other.get_input_embeddings())
        yield
    model.model.language_model = tiny.model(model.config.model_type, 8, layers=2).model.language_model
    yield


def written(model: Any) -> Iterator[None]:
    with torch.no_grad():
        model.lm_head.weight.copy_(model.lm_head.weight.roll(1, dims=0))
    yield
    text_of(model).layers[0].mlp.down_proj.weight.data.neg_()
    yield


def hooked(model: Any) -> Iterator[None]:
    """Inside: those are called."""
    for part in (text_of(model), text_of(model).layers[0].mlp, model.lm_head):
        part.register_forward_hook(turned)
        yield


def set_otherwise(model: Any) -> Iterator[None]:
    for layer in text_of(model).layers:
        layer.self_attn.scaling *= 3
    yield
    text_of(model).layers[1].mlp.act_fn = nn.Tanh().eval()
    yield
    if hasattr(model.config, "vision_feature_layer"):
        model.config.vision_feature_layer = -1
        yield


CHANGES: dict[str, Callable[[Any], Iterator[None]]] = {
    "adapters": adapters,
    "head and embedding": replaced,
    "written in place": written,
    "hooks inside": hooked,
    "settings": set_otherwise,
}


@pytest.mark.part(2)
@pytest.mark.parametrize(
    ("family", "change"),
    [*(("llava_onevision", change) for change in CHANGES), ("qwen3_vl", "adapters"), ("qwen2_5_vl", "hooks inside")],
)
def test_between_questions_of_a_watched_video_a_model_may_become_another(family: str, change: str) -> None:
    target, vlm = small(family)
    watched = vlm.watch(tiny.film(6, 1), **ASKED)
    answers = [watched.ask(QUESTIONS[0]).token_ids]
    for _ in CHANGES[change](target):
        answers.append(watched.ask(QUESTIONS[0]).token_ids)
        assert answers[-1] == right(vlm)
        assert watched.ask(QUESTIONS[1]).token_ids == right(vlm, QUESTIONS[1])
    assert len(set(answers)) > len(answers) / 2


def test_head_and_embedding_are_called_with_a_batch_as_stock_calls_them() -> None:
    target, vlm = small()
    shapes = []
    for part in (target.lm_head, target.get_input_embeddings()):
        part.register_forward_hook(lambda _, given, output: output[:, :, :].roll(1, dims=2))
        part.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    assert said(vlm) == said(vlm, rounds="device") == right(vlm)
    assert {shape[0] for shape in shapes} == {1}


def test_another_language_model_of_another_depth_is_learnt_anew() -> None:
    target, vlm = small()
    before = said(vlm, rounds="device")
    deeper: Any = tiny.model("llava_onevision", 5, layers=3)
    target.model.language_model = deeper.model.language_model
    target.config.text_config = deeper.config.text_config
    assert said(vlm) == said(vlm, rounds="device") == right(vlm) != before


def test_hooks_that_let_rows_see_each_other_are_found_when_they_are_hung_up() -> None:
    """After `load`: of a tree, the last row isn't the last token."""
    target, vlm = small()
    assert said(vlm) == right(vlm)

    def last(_: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.cat([output[:, :-1], output[:, -1:].roll(3, dims=-1)], dim=1)

    hook = text_of(target).layers[0].mlp.register_forward_hook(last)
    with pytest.raises(ModelError, match="can't be verified as a tree"):
        said(vlm)
    hook.remove()
    assert said(vlm) == right(vlm)


class Louder(nn.Module):
    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.weight, self._embedding = embedding.weight, [embedding]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return 2 * self._embedding[0](tokens)


def own_embedding(model: Any) -> None:
    louder = Louder(model.get_input_embeddings()).eval()
    model.model.get_input_embeddings = lambda: louder


def own_tower(model: Any) -> None:
    forward = model.model.visual.forward
    model.model.visual.forward = lambda *args, **kwargs: forward(*args, **kwargs)


def prompted(model: Any) -> None:
    config = peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=3)
    model.model.language_model = peft.get_peft_model(text_of(model), config).eval()


def wrapped_inside(model: Any) -> None:
    model.model.language_model = peft.get_peft_model(
        text_of(model), peft.LoraConfig(target_modules=["q_proj"], task_type="FEATURE_EXTRACTION")
    ).eval()


REFUSED: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "hook on the tower": (
        "qwen2_5_vl", lambda model: model.model.visual.register_forward_hook(turned),
        "its part model.visual has a forward hook, of whose output specvlm would take a part alone",
    ),
    "recurrent, too": (
        "qwen3_5", lambda model: model.model.visual.register_forward_hook(turned), "model.visual has a forward hook",
    ),
    "forward of the tower": ("qwen2_5_vl", own_tower, "model.visual has a forward of its own"),
    "embedding": ("llava_onevision", own_embedding, "its part model has a get_input_embeddings of its own"),
    "prompt tuning inside": ("llava_onevision", prompted, "of type PROMPT_TUNING, which specvlm can't follow"),
    "LoRA wrapped inside": ("qwen2_5_vl", wrapped_inside, "model.language_model.base_model is wrapped in LoraModel"),
    "features": (
        "qwen3_vl", lambda model: setattr(model, "get_video_features", lambda *args, **kwargs: None),
        "tiny target has a get_video_features of its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_refused_by_name_whenever_it_comes(case: str) -> None:
    family, change, complaint = REFUSED[case]
    target = tiny.model(family, 0, layers=2)
    vlm = tiny.pair(target, None)
    watched = vlm.watch(tiny.film(6, 1), **ASKED)
    watched.ask(QUESTIONS[0])
    change(target)
    for ask in (said, lambda vlm: watched.ask(QUESTIONS[1])):
        with pytest.raises(ModelError, match=complaint) as caught:
            ask(vlm)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=complaint.removeprefix("tiny target ")):
        specvlm.load(target, processor=tiny.processor(family))


@pytest.mark.parametrize("family", ["llava_onevision", "qwen3_vl"])
def test_hooks_on_a_tower_that_is_taken_whole_are_followed(family: str) -> None:
    target, vlm = small(family)
    before, tower = said(vlm), target.model.visual if family == "qwen3_vl" else target.model.vision_tower
    tower.register_forward_pre_hook(lambda _, given: (given[0].flip(-1), *given[1:]))
    if family == "qwen3_vl":

        def pooled(_: Any, given: Any, output: Any) -> None:
            output["pooler_output"] = output["pooler_output"].roll(1, dims=-1)

        tower.register_forward_hook(pooled)
    assert said(vlm) == right(vlm) != before


def patched(owner: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """As libraries do that bring kernels of their own: `wraps` gives them the name of what they take the place of."""
    own = owner.forward

    @functools.wraps(own)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return turned(self, args, own(self, *args, **kwargs))

    monkeypatch.setattr(owner, "forward", forward)


def test_a_forward_put_in_the_place_of_transformers_own_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    target, vlm = small()
    before = said(vlm)
    with monkeypatch.context() as inner:
        patched(type(text_of(target)), inner)
        assert said(vlm) == said(vlm, rounds="device") == right(vlm) != before
    patched(type(target), monkeypatch)
    with pytest.raises(ModelError, match="tiny target has a forward of its own"):
        said(vlm)


def test_a_hook_around_every_module_is_refused_unless_it_is_torchs_own() -> None:
    _, vlm = small()
    with FlopCounterMode(display=False):
        assert said(vlm) == right(vlm)
    handle = register_module_forward_hook(turned_outside)
    try:
        with pytest.raises(ModelError, match="torch calls the hook turned_outside around every module"):
            said(vlm)
    finally:
        handle.remove()


def turned_outside(module: nn.Module, given: Any, output: Any) -> Any:
    return turned(module, given, output) if isinstance(module, PreTrainedModel) and hasattr(module, "lm_head") else None


def test_prompt_tuning_is_of_the_wrapper_and_refused_there() -> None:
    target, vlm = small()
    before = said(vlm)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    tuned = peft.get_peft_model(target, config).eval()
    assert said(vlm) == right(vlm) == before  # the model inside is what it was
    with pytest.raises(ModelError, match="of type PROMPT_TUNING, which specvlm can't follow"):
        specvlm.load(tuned, processor=tiny.llava_processor())
    inputs = vlm.target.prepare([tiny.film(6, 1)], QUESTIONS[0]).model_inputs
    with pytest.raises(ModelError, match="has a prepare_inputs_for_generation of its own"):
        tuned.generate(**inputs, max_new_tokens=4, custom_generate=specvlm.custom_generate)


def test_rounds_that_would_be_captured_are_the_hosts_while_others_have_code_in_the_layers() -> None:
    target, vlm = small()
    pair = SpecVLM(vlm.target, vlm.draft, compile="inductor").pair
    assert place(pair, DEVICE).reason is None
    hook = text_of(target).layers[0].register_forward_hook(lambda *_: None)
    assert place(vlm.pair, DEVICE).reason is None  # where nothing is captured the hook is called each time
    assert place(pair, DEVICE).reason == "tiny target: what others do in its layers is done each time, and not captured"
    hook.remove()
    assert place(pair, DEVICE).reason is None


def test_known_code_is_told_by_its_file() -> None:
    assert is_known_code(nn.Linear.forward)
    assert is_known_code(PreTrainedModel.get_input_embeddings)
    assert not is_known_code(functools.wraps(nn.Linear.forward)(lambda *_: None))
    assert is_known_code(None)
