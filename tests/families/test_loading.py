"""Loading: paths and objects become families; whatever can't be loaded is one line that says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import specvlm
import tiny
from specvlm.errors import ModelError, OptionError, SpecVLMError
from specvlm.families import load_family
from specvlm.families.llava_onevision import LlavaOnevision


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
