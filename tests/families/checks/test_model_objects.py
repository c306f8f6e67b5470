"""Model objects, adapted, wrapped, compiled or hooked: the answers of stock generate of the same object, or none."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from accelerate import dispatch_model
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForImageTextToText, LlavaOnevisionForConditionalGeneration, PreTrainedModel

import specvlm
import tiny
from specvlm import ModelError, Options, Stats
from specvlm.families import load_family
from specvlm.families.checks.model_objects import FOLLOWED_ADAPTERS

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),  # peft asks so
    pytest.mark.filterwarnings("ignore:Merge|:UserWarning"),
]

ASKED: dict[str, Any] = {"max_new_tokens": 24, "do_sample": False}
PLAIN_LORA = {"r": 4, "lora_alpha": 32, "init_lora_weights": False}


def adapted(model: PreTrainedModel, config: Any = None, seed: int = 0) -> peft.PeftModel:
    """With an adapter that changes what it says: fresh ones often change nothing."""
    torch.manual_seed(seed)
    made = peft.get_peft_model(model, config or peft.LoraConfig(target_modules=["q_proj", "down_proj"], **PLAIN_LORA))
    with torch.no_grad():
        for weight in made.parameters():
            if weight.requires_grad and weight.is_floating_point():
                weight.add_(0.1 * torch.randn_like(weight))
    return made.eval()


def stock(model: Any, family: str = "llava_onevision") -> tuple[list[int], Any]:
    """What stock generate of this very object says, and the processor's inputs that it was asked with."""
    prompt = tiny.family(tiny.model(family, 0, layers=1)).prepare([tiny.film(6, 1)], "what happens?")
    return model.generate(**prompt.model_inputs, **ASKED)[0, prompt.num_tokens :].tolist(), prompt.model_inputs


def check(target: Any, draft: Any, family: str = "llava_onevision") -> list[int]:
    """Both doors say what stock generate of the same object says, with guesses that came true."""
    right, inputs = stock(target, family)
    vlm = specvlm.load(target, draft, processor=tiny.processor(family))
    answer = vlm.generate(tiny.film(6, 1), "what happens?", pruning_ratio=0.5, **ASKED)
    assert list(answer.token_ids) == right
    assert answer.stats.num_accepted > 0
    stats = Stats()
    ours = {"custom_generate": specvlm.custom_generate, "draft_model": draft, "pruning_ratio": 0.5, "stats": stats}
    output = target.generate(**inputs, **ASKED, **ours)
    assert output[0, inputs["input_ids"].shape[1] :].tolist() == right
    assert stats.num_accepted > 0
    return right


def refusal(model: Any, *, draft: bool = False) -> str:
    """Both doors, as target or as draft, and the same words."""
    plain, processor = tiny.llava_model(0, layers=2), tiny.llava_processor()
    with pytest.raises(ModelError) as caught:
        specvlm.load(plain if draft else model, model if draft else None, processor=processor)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    inputs = stock(plain)[1]
    generate = (
        plain.generate if draft or not isinstance(model, PreTrainedModel) else type(plain).generate.__get__(model)
    )
    with pytest.raises(ModelError):
        generate(**inputs, **ASKED, custom_generate=specvlm.custom_generate, draft_model=model)
    return message


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_a_model_with_lora_answers_as_stock_and_so_may_its_draft_have_one(family):
    plain = tiny.model(family, 0, layers=2)
    before = stock(plain, family)[0]
    target = adapted(plain)
    draft = tiny.noised(target, 0.01)  # type: ignore[arg-type]
    assert check(target, draft, family) != before
    assert isinstance(draft, peft.PeftModel)


CONFIGS = {
    "LORA": peft.LoraConfig(target_modules="all-linear", **PLAIN_LORA),
    "LORA dora": peft.LoraConfig(target_modules=["v_proj"], use_dora=True, **PLAIN_LORA),
    "LORA parts": peft.LoraConfig(
        target_modules=["q_proj", "embed_tokens", "lm_head"], modules_to_save=["multi_modal_projector"], **PLAIN_LORA
    ),
    "LORA head": peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"], **PLAIN_LORA),
    "LORA tokens": peft.LoraConfig(
        target_modules=["q_proj"], trainable_token_indices={"embed_tokens": list(range(60, 300))}, **PLAIN_LORA
    ),
    "ADALORA": peft.AdaLoraConfig(target_modules=["q_proj"], total_step=10, init_r=4),
    "BOFT": peft.BOFTConfig(target_modules=["q_proj"], boft_block_size=4),
    "C3A": peft.C3AConfig(target_modules=["q_proj"], block_size=4),
    "DELORA": peft.DeloraConfig(target_modules=["q_proj"], r=4),
    "FOURIERFT": peft.FourierFTConfig(target_modules=["q_proj"], n_frequency=20),
    "GRALORA": peft.GraloraConfig(target_modules=["q_proj"], r=4),
    "HRA": peft.HRAConfig(target_modules=["q_proj"], r=4),
    "IA3": peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
    "LN_TUNING": peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "LOHA": peft.LoHaConfig(target_modules=["q_proj"], r=4),
    "LOKR": peft.LoKrConfig(target_modules=["q_proj"], r=4),
    "MISS": peft.MissConfig(target_modules=["q_proj"], r=4),
    "OFT": peft.OFTConfig(target_modules=["q_proj"], oft_block_size=4),
    "RANDLORA": peft.RandLoraConfig(target_modules=["q_proj"], r=4),
    "ROAD": peft.RoadConfig(target_modules=["q_proj"], group_size=4),
    "SHIRA": peft.ShiraConfig(target_modules=["q_proj"], r=4),
    "TRAINABLE_TOKENS": peft.TrainableTokensConfig(target_modules=["embed_tokens"], token_indices=list(range(60, 300))),
    "VBLORA": peft.VBLoRAConfig(target_modules=["q_proj"], r=4, vector_length=8, num_vectors=16),
    "VERA": peft.VeraConfig(target_modules=["q_proj"], r=4),
}


@pytest.mark.part(2)
@pytest.mark.parametrize("kind", CONFIGS)
def test_every_adapter_that_takes_the_place_of_layers_is_followed(kind):
    model = tiny.llava_model(0, layers=2)
    before = stock(model)[0]
    target = adapted(model, copy.deepcopy(CONFIGS[kind]))
    after = check(target, tiny.noised(target.get_base_model(), 0.005))
    assert (after != before) or kind in ("FOURIERFT", "VBLORA")  # whose changes are small


def test_every_kind_on_the_list_is_tried():
    assert {kind.partition(" ")[0] for kind in CONFIGS} == set(FOLLOWED_ADAPTERS)


def test_what_counts_is_what_the_adapter_does_at_the_time():
    """Merged, unmerged, disabled, another one: between two answers of one pair."""
    plain = tiny.llava_model(0, layers=2)
    target = adapted(plain)
    torch.manual_seed(1)
    target.add_adapter("second", peft.LoraConfig(target_modules=["q_proj", "lm_head"], **PLAIN_LORA))
    target.eval()
    vlm = specvlm.load(target, tiny.noised(plain, 0.005), processor=tiny.llava_processor())
    seen = []

    def ask() -> None:
        ours = vlm.generate(tiny.film(6, 1), "what happens?", pruning_ratio=0.5, **ASKED)
        assert list(ours.token_ids) == stock(target)[0]
        seen.append(ours.token_ids)

    ask()
    with target.disable_adapter():
        ask()
    target.set_adapter("second")
    ask()
    target.merge_adapter()
    ask()
    target.unmerge_adapter()
    target.set_adapter("default")
    ask()
    target.merge_and_unload()
    ask()
    assert seen[0] == seen[4] == seen[5]
    assert seen[2] == seen[3]
    assert len({seen[0], seen[1], seen[2]}) == 3


def test_the_head_and_the_embedding_are_those_that_the_model_has_now():
    target, other = tiny.llava_model(0, layers=2), tiny.llava_model(1, layers=2)
    vlm = specvlm.load(target, "self", processor=tiny.llava_processor())
    before = vlm.generate(tiny.film(6, 1), "what happens?", **ASKED).token_ids
    for change in (target.set_output_embeddings, target.set_input_embeddings):
        part = other.lm_head if change == target.set_output_embeddings else other.get_input_embeddings()
        change(part)
        after = vlm.generate(tiny.film(6, 1), "what happens?", **ASKED).token_ids
        assert list(after) == stock(target)[0]
        assert after != before
        before = after


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), "PROMPT_TUNING"),
        (peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), "P_TUNING"),
        (peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), "PREFIX_TUNING"),
        (
            peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], alora_invocation_tokens=[70]),
            "LORA with alora_invocation_tokens",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("draft", [False, True])
def test_an_adapter_that_looks_beyond_a_layer_is_refused_by_name(config, kind, draft):
    model = peft.get_peft_model(tiny.llava_model(0, layers=2), config).eval()
    assert f"has the adapter 'default' of type {kind}, which specvlm can't follow" in refusal(model, draft=draft)


@pytest.mark.parametrize("with_processor", [False, True])
def test_an_adapters_folder_is_its_base_with_it(tmp_path, with_processor):
    base, folder = tmp_path / "base", tmp_path / "adapter"
    tiny.llava_model(0, layers=2).save_pretrained(base)
    tiny.llava_processor().save_pretrained(base)
    adapted(AutoModelForImageTextToText.from_pretrained(base)).save_pretrained(folder)
    if with_processor:
        processor = tiny.llava_processor()
        processor.chat_template = processor.chat_template.replace("assistant", "robot")
        processor.save_pretrained(folder)
    vlm = specvlm.load(folder, base, dtype="float32")
    prompt = vlm.prepare(tiny.film(6, 1), "what happens?", Options(), Stats())
    assert ("robot" in (prompt.text or "")) == with_processor
    right = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    without = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    expected = right.generate(**prompt.model_inputs, **ASKED)[0, prompt.num_tokens :].tolist()
    assert expected != without.generate(**prompt.model_inputs, **ASKED)[0, prompt.num_tokens :].tolist()
    answer = vlm.generate(tiny.film(6, 1), "what happens?", pruning_ratio=0.5, **ASKED)
    assert list(answer.token_ids) == expected
    drafting = specvlm.load(base, folder, dtype="float32")
    assert drafting.draft.name == str(folder)
    assert "lora_A" in " ".join(name for name, _ in drafting.draft.model.named_parameters())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "of type PROMPT_TUNING, which specvlm can't follow"),
        ({"base_model_name_or_path": None}, "is an adapter without a model"),
        ({"base_model_name_or_path": "/no/such/place"}, "can't load /no/such/place as a checkpoint"),
        (None, "can't load .* as an adapter: adapter_config.json: JSONDecodeError"),
        ({"peft_type": ...}, "can't load .* as an adapter: adapter_config.json: KeyError"),
    ],
    ids=str,
)
def test_an_adapters_folder_that_cannot_be_followed_is_refused(tmp_path, change, complaint):
    adapted(tiny.llava_model(0, layers=1)).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text()) | (change or {})
    config = {name: value for name, value in config.items() if value is not ...}
    path.write_text("{" if change is None else json.dumps(config))
    with pytest.raises(ModelError, match=complaint) as caught:
        load_family(tmp_path, processor=tiny.llava_processor())
    assert "\n" not in str(caught.value)


def test_an_adapters_folder_needs_peft(tmp_path, monkeypatch):
    adapted(tiny.llava_model(0, layers=1)).save_pretrained(tmp_path)
    monkeypatch.setattr("specvlm.families.checkpoints.adapters.is_peft_available", lambda: False)
    with pytest.raises(ModelError, match="is an adapter, and the package peft, which would load it, isn't installed"):
        load_family(Path(tmp_path), processor=tiny.llava_processor())


def test_an_adapter_that_was_just_attached_has_nothing_that_trains():
    """peft leaves the layers that it makes in training mode, where without dropout there is no such thing."""
    target = peft.get_peft_model(
        tiny.llava_model(0, layers=2), peft.LoraConfig(target_modules=["q_proj"], **PLAIN_LORA)
    )
    assert any(part.training for part in target.get_base_model().modules())
    check(target, tiny.noised(target.get_base_model(), 0.01))
    dropping = peft.LoraConfig(target_modules=["q_proj"], lora_dropout=0.1, **PLAIN_LORA)
    assert "q_proj.lora_dropout.default is in training mode: call model.eval() first" in refusal(
        peft.get_peft_model(tiny.llava_model(0, layers=2), dropping)
    )


def compiled(model: PreTrainedModel) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


def test_a_wrapper_of_torch_compile_generates_with_the_model_inside_it_and_so_do_we():
    target = tiny.llava_model(0, layers=2)
    check(compiled(target), compiled(tiny.noised(target, 0.01)))
    check(compiled(adapted(target)), tiny.noised(target, 0.01))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["", "model", "model.language_model", "model.language_model.layers.1", "lm_head"])
@pytest.mark.parametrize("how", ["compile()", "forward"])
def test_what_is_compiled_in_place_is_refused(path, how):
    """Compiled code keeps what it found when it was traced: an attention, and a mask, that were lent for a forward."""
    model = tiny.llava_model(0, layers=2)
    part = model.get_submodule(path)
    if how == "forward":
        part.forward = torch.compile(part.forward, backend="eager")
    else:
        part.compile(backend="eager")
    assert f"{path} is compiled" in refusal(model)
    assert f"{path} is compiled" in refusal(model, draft=True)


def test_a_part_that_was_replaced_by_a_compiled_one_is_refused():
    model = tiny.llava_model(0, layers=2)
    model.model.language_model = compiled(model.model.language_model)
    assert "model.language_model is compiled" in refusal(model)


@pytest.mark.parametrize(
    "path", ["", "model.language_model.layers.1", "model.vision_tower", "model.language_model.norm"]
)
def test_what_is_in_training_mode_is_refused(path):
    model = tiny.llava_model(0, layers=2)
    model.get_submodule(path).train()
    assert f"{path} is in training mode: call model.eval() first" in refusal(model)
    assert "is in training mode" in refusal(model, draft=True)
    assert model.get_submodule(path).training


def test_a_model_that_is_trained_between_two_answers_is_refused_then():
    target = tiny.llava_model(0, layers=2)
    draft = tiny.noised(target, 0.01)
    vlm = specvlm.load(target, draft, processor=tiny.llava_processor())
    vlm.generate(tiny.film(6, 1), "what happens?", **ASKED)
    draft.train()
    with pytest.raises(ModelError, match="in training mode"):
        vlm.generate(tiny.film(6, 1), "what happens?", **ASKED)
    draft.eval()
    target.register_forward_hook(lambda *_: None)
    with pytest.raises(ModelError, match="has a forward hook"):
        vlm.generate(tiny.film(6, 1), "what happens?", **ASKED)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_what_is_ready_to_be_trained_answers_as_stock():
    target = tiny.llava_model(0, layers=2)
    target.gradient_checkpointing_enable()
    target.enable_input_require_grads()
    check(target.requires_grad_(True), tiny.noised(target, 0.01).requires_grad_(False))


@pytest.mark.parametrize("path", ["", "model"])
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_that_we_would_pass_by_are_refused(path, register):
    model = tiny.llava_model(0, layers=2)
    getattr(model.get_submodule(path), register)(lambda *_: None)
    assert f"{path} has a forward hook, which specvlm would pass by" in refusal(model)
    assert "has a forward hook" in refusal(model, draft=True)


@pytest.mark.parametrize("path", ["lm_head", "model.language_model.norm", "model.vision_tower.encoder.layers.0.mlp"])
def test_hooks_of_what_we_call_are_followed(path):
    target = tiny.llava_model(0, layers=2)
    before = stock(target)[0]
    for model in (target, draft := tiny.noised(target, 0.01)):
        model.get_submodule(path).register_forward_hook(lambda _, inputs, output: output.roll(1, dims=-1))
    assert check(target, draft) != before


class OwnForward(LlavaOnevisionForConditionalGeneration):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


class OwnInputs(LlavaOnevisionForConditionalGeneration):
    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> Any:
        return super().prepare_inputs_for_generation(*args, **kwargs)


class OwnName(LlavaOnevisionForConditionalGeneration):
    def describe(self) -> str:
        return "a subclass that changes nothing"


@pytest.mark.parametrize(
    ("kind", "method"), [(OwnForward, "forward"), (OwnInputs, "prepare_inputs_for_generation")], ids=str
)
def test_a_subclass_with_a_way_of_its_own_is_refused(kind, method):
    model = tiny.llava_model(0, layers=2)
    model.__class__ = kind
    assert f"has a {method} of its own" in refusal(model)
    assert f"has a {method} of its own" in refusal(model, draft=True)


def test_a_subclass_without_one_is_taken():
    target = tiny.llava_model(0, layers=2)
    target.__class__ = OwnName
    check(target, tiny.noised(target, 0.01))


@pytest.mark.parametrize(
    ("path", "method"),
    [("", "forward"), ("", "prepare_inputs_for_generation"), ("model", "forward"), ("model", "get_video_features")],
)
def test_a_method_that_was_put_on_the_object_is_refused(path, method):
    model = tiny.llava_model(0, layers=2)
    part = model.get_submodule(path)
    setattr(part, method, lambda *args, **kwargs: None)
    assert f"has a {method} of its own" in refusal(model)


def test_a_stock_method_that_stands_on_the_object_is_none():
    """peft leaves `prepare_inputs_for_generation` so."""
    target = tiny.llava_model(0, layers=2)
    target.prepare_inputs_for_generation = target.prepare_inputs_for_generation
    check(target, tiny.noised(target, 0.01))


@pytest.mark.filterwarnings("ignore:The following device_map keys do not match")
def test_accelerates_own_hooks_are_followed_and_others_of_its_kind_are_not():
    target = dispatch_model(tiny.llava_model(0, layers=2), {"": "cpu"}, force_hooks=True)
    check(target, tiny.noised(tiny.llava_model(0, layers=2), 0.01))

    class Spy(ModelHook):
        pass

    model = tiny.llava_model(0, layers=2)
    add_hook_to_module(model, Spy())
    assert "has a forward of its own" in refusal(model)


@pytest.fixture
def alone():
    """A process group of one."""
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    yield
    distributed.destroy_process_group()


def test_wrappers_are_refused_by_name(alone):
    model = tiny.llava_model(0, layers=2)
    assert "is wrapped in DataParallel: pass the model inside it, its .module" in refusal(nn.DataParallel(model))
    wrapped = nn.parallel.DistributedDataParallel(model)
    assert "is wrapped in DistributedDataParallel: pass the model inside it" in refusal(wrapped, draft=True)
    assert "must be a loaded transformers model, not a Linear" in refusal(nn.Linear(2, 2))
    sharded = fully_shard(tiny.llava_model(0, layers=2), mesh=init_device_mesh("cpu", (1,)))
    assert "is sharded by fully_shard" in refusal(sharded)


def test_a_users_draft_keeps_its_tower_however_it_is_wrapped():
    """A draft that is loaded here gives up its copy of equal weights; one that isn't ours gives up nothing."""
    target = tiny.llava_model(0, layers=2)
    config = peft.LoraConfig(target_modules=r".*language_model.*q_proj", **PLAIN_LORA)
    draft = adapted(tiny.noised(target, 0.02, same_vision=True), config)
    tower = [weight.data_ptr() for weight in draft.get_base_model().model.vision_tower.parameters()]
    vlm = specvlm.load(target, draft, processor=tiny.llava_processor())
    assert vlm.pair.one_tower
    assert [weight.data_ptr() for weight in vlm.draft.model.model.vision_tower.parameters()] == tower


def test_peft_is_not_imported_for_those_who_have_no_adapter(monkeypatch):
    monkeypatch.delitem(sys.modules, "peft")
    assert "must be a loaded transformers model, not a Linear" in refusal(nn.Linear(2, 2))
    assert "peft" not in sys.modules


@pytest.mark.parametrize("role", ["target", "draft"])
def test_weights_that_the_first_forward_unpacks_are_refused_with_what_would_do(role):
    """As compressed-tensors 0.20 leaves its own checkpoints. We call layers, which have no weights by then."""
    models = {each: tiny.model("llava_onevision", 0, layers=1) for each in ("target", "draft")}
    packed: Any = models[role]
    packed.ct_decompress_hook = packed.register_forward_pre_hook(lambda model, given: None)
    with pytest.raises(ModelError, match=rf"tiny {role} unpacks its weights in its first forward.*dequantize=True"):
        tiny.pair(models["target"], models["draft"])
