"""Whatever is wrong in a checkpoint's folder is one line that names the file, and the field where it is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from specvlm.errors import ModelError, SpecVLMError
from specvlm.families.loading import load_family
from tiny import llava_model, llava_processor


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    llava_model(seed=1).save_pretrained(folder)
    llava_processor().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "model"))


def refusal(folder: Path) -> str:
    """What is said, without more memory than a config takes."""
    with pytest.raises(ModelError) as caught:
        load_family(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1000
    return line


def put(folder: Path, file: str, *keys: Any, value: Any) -> None:
    content = json.loads((folder / file).read_text())
    part = content
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (folder / file).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("text_config",), 7, "text_config"),
        (("text_config", "intermediate_size"), [], "intermediate_size"),
        (("text_config", "rope_parameters", "rope_theta"), "hot", "unsupported operand"),
        (("text_config", "hidden_size"), 10**12, "text_config.hidden_size should be at most 2147483647"),
        (("text_config", "hidden_size"), -1, "-1"),
        (("text_config", "num_hidden_layers"), 10**6, "should be at most 10000 layers, not 1000000"),
        (("vision_config", "image_size"), 10**30, "vision_config.image_size should be at most"),
        (("vision_config", "hidden_size"), True, "hidden_size"),
        (("text_config", "dtype"), "two\nlines", "two lines"),
        (("dtype",), 16, "config.json"),
        (("vision_feature_layer",), 99, "vision_feature_layer should be one of"),
        (("text_config", "rope_parameters", "mrope_section"), [None], "mrope_section should be a list"),
        (("model_type",), ["llava_onevision"], "unhashable"),
    ],
)
def test_a_wrong_value_in_the_config(folder: Path, keys: tuple, value: Any, said: str) -> None:
    put(folder, "config.json", *keys, value=value)
    line = refusal(folder)
    assert "config.json: " in line
    assert said in line


def test_nothing_is_allocated_for_an_absurd_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "normal_", pytest.fail)
    put(folder, "config.json", "vision_config", "num_hidden_layers", value=2**31)
    assert "vision_config.num_hidden_layers" in refusal(folder)


CONTENTS = (b"", b"null", b"[1, 2]", b"7", b'{"cut', b"\xff\xfe\x00\x01", b"[" * 100_000)


@pytest.mark.parametrize("content", CONTENTS, ids=repr)
@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "generation_config.json",
        "processor_config.json",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.json",
    ],
)
def test_a_file_that_is_no_object(folder: Path, file: str, content: bytes) -> None:
    """One that transformers would pass over in silence, too: its owner had something to say in it."""
    (folder / file).write_bytes(content)
    assert file in refusal(folder)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_something_else_in_the_place_of_a_file(folder: Path, file: str, kind: str) -> None:
    (folder / file).unlink(missing_ok=True)
    (folder / file).mkdir() if kind == "folder" else (folder / file).symlink_to("nowhere")
    assert file in refusal(folder)


@pytest.mark.parametrize(
    ("file", "keys", "value", "said"),
    [
        ("processor_config.json", ("video_processor", "size"), -1, "video_processor.size"),
        ("processor_config.json", ("video_processor", "size"), {"height": 10**12, "width": 8}, "video_processor.size"),
        ("processor_config.json", ("video_processor", "image_mean"), "grey", "video_processor.image_mean"),
        ("processor_config.json", ("video_processor", "do_rescale"), [], "video_processor.do_rescale"),
        ("processor_config.json", ("video_processor", "rescale_factor"), "lots", "video_processor.rescale_factor"),
        ("processor_config.json", ("video_processor", "resample"), 10**30, "video_processor.resample"),
        ("processor_config.json", ("image_processor", "image_std"), [None], "image_processor.image_std"),
        ("processor_config.json", ("video_processor",), [1], "processor_config.json"),
        ("processor_config.json", ("image_processor", "image_processor_type"), 7, "endswith"),
        ("processor_config.json", ("processor_class",), "", "processor"),
        ("tokenizer_config.json", ("eos_token",), 0.5, "eos_token"),
        ("tokenizer.json", ("normalizer",), "word", "NormalizerUntagged"),
        ("tokenizer.json", ("model",), None, "tokenizer.json"),
    ],
)
def test_a_wrong_value_of_the_processor(folder: Path, file: str, keys: tuple, value: Any, said: str) -> None:
    put(folder, file, *keys, value=value)
    line = refusal(folder)
    assert file in line
    assert said in line


@pytest.mark.parametrize("spoil", [lambda content: content[:100], lambda content: b"\xff" * 8 + content[8:]])
def test_weights_that_are_cut_or_overwritten(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    (folder / "model.safetensors").write_bytes(spoil((folder / "model.safetensors").read_bytes()))
    assert "model.safetensors: " in refusal(folder)


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in messages %}",
        "{{ nothing.at.all }}",
        "{{ raise_exception('not\nfor you') }}",
        "{{ 1 // 0 }}",
        "{{ 'a' + 1 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ ''.__class__ }}",
        "hello",
    ],
)
def test_a_template_that_is_broken(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    family = load_family(folder)
    with pytest.raises(SpecVLMError, match=r"template|processor") as caught:
        family.prepare([tiny.video(2)], "what?")
    assert "\n" not in str(caught.value)
