"""Loading: paths and objects become families; whatever can't be loaded is one line that says why."""

from __future__ import annotations

import builtins
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import specvlm
import tiny
from specvlm.errors import ModelError, OptionError, SpecVLMError
from specvlm.families import load_family
from specvlm.families.llava_onevision import LlavaOnevision
from specvlm.families.loading import device_of
from specvlm.families.releases import ADAPTERS_COME_ALONG


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "target"
    tiny.llava_model(0, layers=2, dtype=torch.bfloat16).save_pretrained(path)
    tiny.llava_processor().save_pretrained(path)
    return path


@pytest.fixture
def damaged(checkpoint, tmp_path) -> Path:
    """A copy to be broken."""
    return shutil.copytree(checkpoint, tmp_path / "damaged")


def refusal(source, **options) -> str:
    with pytest.raises(SpecVLMError) as caught:
        load_family(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 750  # a name of 200 and a reason of 500, and what joins them
    return message


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_loaded_in_the_checkpoints_dtype(checkpoint, kind):
    family = load_family(kind(checkpoint))
    assert isinstance(family, LlavaOnevision)
    assert family.name == str(checkpoint)
    assert family.model.dtype == family.decoder.dtype == torch.bfloat16
    assert not family.model.training
    prompt = family.prepare([tiny.video(2)], "what?")
    assert torch.equal(prompt.input_ids, tiny.llava(family.model).prepare([tiny.video(2)], "what?").input_ids)


@pytest.mark.parametrize("dtype", ["float32", torch.float64])
def test_or_in_the_dtype_that_was_asked_for(checkpoint, dtype):
    model = load_family(checkpoint, dtype=dtype).model
    assert model.dtype == (torch.float32 if dtype == "float32" else dtype)


def test_the_attention_of_stock_generate_can_be_chosen(checkpoint):
    assert load_family(checkpoint, attn="eager").model.config._attn_implementation == "eager"


def test_a_model_object_is_taken_as_it_is(checkpoint):
    model, processor = tiny.llava_model(0), tiny.llava_processor()
    family = load_family(model, processor=processor)
    assert family.model is model
    assert family.processor is processor
    loaded = load_family(checkpoint).model
    assert load_family(loaded).name == str(checkpoint)  # its processor comes from where it came from itself


def test_a_model_object_from_nowhere_needs_a_processor():
    assert "pass processor=" in refusal(tiny.llava_model(0))


def test_a_model_in_training_is_not_switched_over_behind_its_owners_back():
    model = tiny.llava_model(0).train()
    assert "model.eval()" in refusal(model, processor=tiny.llava_processor())
    assert model.training


def test_a_model_without_a_head_is_refused():
    """The bare LlavaOnevisionModel has the right model_type and can't say a word."""
    message = refusal(tiny.llava_model(0).model, processor=tiny.llava_processor())
    assert "is a LlavaOnevisionModel, which has no output head" in message


def test_another_kind_of_model_is_refused_with_the_kinds_there_are(damaged):
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps({**config, "model_type": "qwen2"}))
    message = refusal(damaged)
    assert "is a qwen2, which is not supported" in message
    assert "llava_onevision" in message


def test_a_language_model_object_is_refused_too():
    language_model = tiny.llava_model(0).model.language_model
    assert "is a qwen2, which is not supported" in refusal(language_model)


@pytest.mark.parametrize("name", ["nothing/here", "/no/such/place", "no spaces allowed"])
def test_what_is_no_checkpoint_is_refused(name):
    assert f"can't load {name} as a checkpoint" in refusal(name)


def test_an_empty_folder_is_refused(tmp_path):
    assert f"can't load {tmp_path} as a checkpoint" in refusal(tmp_path)


@pytest.mark.parametrize(
    "missing", ["model.safetensors", "tokenizer.json", "processor_config.json", "chat_template.jinja"]
)
def test_a_checkpoint_that_lacks_a_file_is_refused(damaged, missing):
    (damaged / missing).unlink()
    assert str(damaged) in refusal(damaged)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_refused(damaged, name):
    whole = (damaged / name).read_bytes()
    (damaged / name).write_bytes(whole[: len(whole) // 2])
    assert f"can't load {damaged} as a checkpoint" in refusal(damaged)


def test_weights_of_another_size_are_refused(damaged):
    config = json.loads((damaged / "config.json").read_text())
    config["text_config"]["hidden_size"] = 64
    (damaged / "config.json").write_text(json.dumps(config))
    assert f"can't load {damaged} as a checkpoint" in refusal(damaged)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], object], file: str = "model.safetensors") -> None:
    weights = load_file(folder / file)
    change(weights)
    save_file(weights, folder / file, metadata={"format": "pt"})


QUERY = "language_model.model.layers.0.self_attn.q_proj.weight"
LOADED_QUERY = "model.language_model.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("lost", "count", "named"),
    [
        (QUERY, "1 weight", LOADED_QUERY),
        ("language_model.lm_head.weight", "1 weight", "lm_head.weight"),
        ("image_newline", "1 weight", "model.image_newline"),
        ("multi_modal_projector", "4 weights", "model.multi_modal_projector.linear_1.bias"),
    ],
)
def test_a_checkpoint_that_lacks_weights_is_refused_by_their_names(damaged, lost, count, named):
    def lose(weights):
        for name in [name for name in weights if name.startswith(lost)]:
            del weights[name]

    rewrite(damaged, lose)
    assert f"can't load {damaged} as a checkpoint: it lacks {count} of its model ({named}" in refusal(damaged)


def test_a_draft_that_lacks_weights_is_refused_too(checkpoint, damaged):
    rewrite(damaged, lambda weights: weights.pop(QUERY))
    with pytest.raises(ModelError, match=f"it lacks 1 weight of its model .{LOADED_QUERY}"):
        specvlm.load(checkpoint, damaged)


@pytest.mark.parametrize("more", [QUERY.replace(".0.", ".2."), QUERY + "_scale_inv", "vision_tower.post_norm.weight"])
def test_weights_that_a_model_has_no_place_for_are_refused_by_their_names(damaged, more):
    """Layers that the config doesn't count, the scales of weights that it doesn't call quantised."""
    rewrite(damaged, lambda weights: weights.update({more: torch.ones(1)}))
    message = refusal(damaged)
    assert "it holds 1 weight that its model has no place for (model." in message
    assert more.rpartition("layers")[2] in message


@pytest.mark.parametrize(
    "more",
    [
        "mtp.layers.0.weight",
        "v_head.weight",
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
        "language_model.model.layers.0.self_attn.k_scale",
        "vision_tower.vision_model.head.probe",
    ],
)
def test_what_no_answer_hangs_on_may_be_there(checkpoint, damaged, more):
    rewrite(damaged, lambda weights: weights.update({more: torch.ones(1)}))
    loaded, whole = load_family(damaged).model.state_dict(), load_family(checkpoint).model.state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in whole.items())


def test_a_head_that_is_tied_to_the_embedding_does_not_lack(damaged):
    config = json.loads((damaged / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    (damaged / "config.json").write_text(json.dumps(config))
    rewrite(damaged, lambda weights: weights.pop("language_model.lm_head.weight"))
    model = load_family(damaged).model
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    rewrite(damaged, lambda weights: weights.pop("language_model.model.embed_tokens.weight"))
    assert "it lacks 2 weights of its model (lm_head.weight, model.language_model.embed_tokens" in refusal(damaged)


def test_weights_of_another_size_are_refused_by_their_names(damaged):
    rewrite(damaged, lambda weights: weights.update({QUERY: weights[QUERY][:3].clone()}))
    assert f"it holds 1 weight of another size ({LOADED_QUERY}: [3, 32] instead of [32, 32])" in refusal(damaged)


def test_a_checkpoint_that_lacks_a_shard_is_refused_by_its_name(tmp_path):
    tiny.llava_model(0).save_pretrained(tmp_path, max_shard_size="100KB")
    tiny.llava_processor().save_pretrained(tmp_path)
    load_family(tmp_path)
    shard = max(tmp_path.glob("*.safetensors"))
    rewrite(tmp_path, lambda weights: weights.pop(min(weights)), shard.name)
    assert "it lacks 1 weight of its model" in refusal(tmp_path)
    shard.unlink()
    assert shard.name in refusal(tmp_path)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks so
@pytest.mark.parametrize("apart", [True, False])
def test_an_adapter_and_what_it_adapts_are_looked_at_both(damaged, tmp_path, apart):
    """A whole checkpoint may bring its adapter along in one folder."""
    config = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    folder = tmp_path / "adapter" if apart else damaged
    peft.get_peft_model(load_family(damaged).model, config).save_pretrained(folder)
    load_family(folder)
    adapter = folder / "adapter_model.safetensors"
    whole = adapter.read_bytes()
    rewrite(folder, lambda weights: weights.pop(min(weights)), adapter.name)
    assert f"can't load {folder} as a checkpoint: it lacks 1 weight of its model" in refusal(folder)
    adapter.write_bytes(whole)
    if ADAPTERS_COME_ALONG and not apart:
        return  # what it adapts can't be looked at by itself
    rewrite(damaged, lambda weights: weights.pop(QUERY))
    assert f"can't load {damaged} as a checkpoint: it lacks 1 weight of its model ({LOADED_QUERY}" in refusal(folder)


FOREIGN = {
    "AutoConfig": "foreign.Foreign",
    "AutoModelForImageTextToText": "foreign.Foreign",
    "AutoProcessor": "foreign.Foreign",
    "AutoImageProcessor": "foreign.Foreign",
    "AutoVideoProcessor": "foreign.Foreign",
    "AutoTokenizer": ["foreign.Foreign", "foreign.Foreign"],
}


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"model_type": "foreign"}),
        ("processor_config.json", {"processor_class": "ForeignProcessor"}),
        ("tokenizer_config.json", {"tokenizer_class": "ForeignTokenizer"}),
    ],
)
def test_no_code_of_a_checkpoint_is_run_whatever_is_said_on_a_terminal(damaged, tmp_path, monkeypatch, file, changes):
    ran = tmp_path / "ran"
    (damaged / "foreign.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    asked: list[str] = []
    monkeypatch.setattr(builtins, "input", lambda question="": asked.append(question) or "y")
    config = json.loads((damaged / file).read_text())
    (damaged / file).write_text(json.dumps({**config, **changes, "auto_map": FOREIGN}))
    message = refusal(damaged)
    assert not asked
    assert not ran.exists()
    assert "it needs code that it brings along, and specvlm runs none" in message


def test_code_that_a_checkpoint_does_not_need_is_not_run(checkpoint, damaged, tmp_path, monkeypatch):
    """Nor does it matter that no file says which class the processor is of."""
    ran = tmp_path / "ran"
    (damaged / "foreign.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    monkeypatch.setattr(builtins, "input", lambda question="": "y")
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        config = json.loads((damaged / file).read_text())
        config.pop("processor_class", None)
        (damaged / file).write_text(json.dumps({**config, "auto_map": FOREIGN}))
    family = load_family(damaged)
    assert type(family.processor) is type(load_family(checkpoint).processor)
    assert not ran.exists()


PROCESSOR = """
from transformers import LlavaOnevisionProcessor

class ForeignProcessor(LlavaOnevisionProcessor):
    pass
"""


def test_code_that_a_checkpoint_brings_is_run_where_it_was_asked_for_and_nowhere_else(damaged):
    (damaged / "foreign.py").write_text(PROCESSOR)
    config = json.loads((damaged / "processor_config.json").read_text())
    brought = {"processor_class": "ForeignProcessor", "auto_map": {"AutoProcessor": "foreign.ForeignProcessor"}}
    (damaged / "processor_config.json").write_text(json.dumps(config | brought))
    assert "it needs code that it brings along, and specvlm runs none" in refusal(damaged)
    with pytest.raises(ModelError, match="it needs code that it brings along"):
        specvlm.load(damaged, target_kwargs={"trust_remote_code": False})
    vlm = specvlm.load(damaged, target_kwargs={"trust_remote_code": True})
    assert type(vlm.target.processor).__name__ == "ForeignProcessor"


def test_an_unknown_dtype_is_refused(checkpoint):
    with pytest.raises(OptionError, match=r"dtype must be one of auto, float64, .* not 'int4'"):
        load_family(checkpoint, dtype="int4")


def test_a_pair_is_loaded_and_checked(checkpoint):
    vlm = specvlm.load(checkpoint, tiny.llava_model(1, layers=1), processor=tiny.llava_processor())
    assert vlm.target.name == str(checkpoint)
    assert vlm.draft is not None
    assert vlm.draft.model.config.text_config.num_hidden_layers == 1
    assert specvlm.load(checkpoint).draft is None


def test_a_draft_with_another_tokenizer_is_refused(checkpoint, damaged):
    tokenizer = json.loads((damaged / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["!"], vocabulary['"'] = vocabulary['"'], vocabulary["!"]
    (damaged / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="different tokenizers: '!' is"):
        specvlm.load(checkpoint, damaged)


@pytest.mark.parametrize("source", ["", Path()])
def test_no_name_is_no_model_object(checkpoint, source):
    """And the empty path is the folder that we are in."""
    assert ("not ''" in refusal(source)) == (source == "")
    with pytest.raises(ModelError, match="not ''" if source == "" else "can't load . as a checkpoint"):
        specvlm.load(checkpoint, source)


@pytest.mark.parametrize(
    ("device_map", "device"),
    [(None, "cpu"), ("cpu", "cpu"), ("meta", "meta"), ("auto", None), ("sequential", None)],
)
def test_where_models_begin(device_map, device):
    first = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert device_of(device_map) == torch.device(device or first)


@pytest.mark.parametrize("device_map", ["cuda:63", "gpu"])
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(device_map):
    with pytest.raises(OptionError, match="device_map"):
        load_family("no/such-checkpoint", device_map=device_map)
