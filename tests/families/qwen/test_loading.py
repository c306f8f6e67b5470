"""Checkpoints of every family by their path; and those that can't be answered with, refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoConfig

import specvlm
import tiny
from specvlm.errors import ModelError, SpecVLMError
from specvlm.families import FAMILIES, load_family
from specvlm.families.releases import is_too_old_for

SUPPORTED = ", ".join(sorted(FAMILIES))
ALL = tiny.BUILDERS | tiny.RECURRENT
every_family = pytest.mark.parametrize("family", ALL)


def test_there_is_a_tiny_model_of_every_family():
    assert ALL.keys() | tiny.MORE.keys() == {name for name in FAMILIES if not is_too_old_for(name)}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """A folder for each family, with a target and a smaller draft whose vocabulary is padded."""
    root = tmp_path_factory.mktemp("checkpoints")
    for family in ALL:
        small = {"layers": 1, "hidden": 16, "heads": 2, "kv_heads": 1, "vocabulary": 352}
        for seed, (role, sizes) in enumerate((("target", {}), ("draft", small))):
            tiny.model(family, seed, **sizes).save_pretrained(root / family / role)
            tiny.processor(family).save_pretrained(root / family / role)
    return root


@pytest.mark.part(2)
@every_family
def test_a_pair_of_paths_answers_as_stock_generate_does(checkpoints, family):
    vlm = specvlm.load(checkpoints / family / "target", str(checkpoints / family / "draft"))
    assert (vlm.target.model_type, vlm.target.name) == (family, str(checkpoints / family / "target"))
    film = tiny.film(6)
    answer = vlm.generate(film, "what happens?", max_new_tokens=16, pruning_ratio=0.5)
    assert answer.token_ids == vlm.autoregressive(film, "what happens?", max_new_tokens=16).token_ids
    assert (
        answer.token_ids
        == tiny.pair(tiny.model(family), None).generate(film, "what happens?", max_new_tokens=16).token_ids
    )
    assert answer.stats.num_drafted > 0


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_a_path_drafts_for_itself(checkpoints, family):
    vlm = specvlm.load(checkpoints / family / "target", draft="self")
    answer = vlm.generate(tiny.film(6), "what happens?", max_new_tokens=16, pruning_ratio=0.5)
    assert answer.token_ids == vlm.autoregressive(tiny.film(6), "what happens?", max_new_tokens=16).token_ids
    assert answer.stats.num_drafted > 0


@every_family
def test_a_head_that_is_the_embedding(family, tmp_path):
    """As in the smaller checkpoints, which draft for the larger ones."""
    tiny.model(family, tied=True).save_pretrained(tmp_path)
    tiny.processor(family).save_pretrained(tmp_path)
    vlm = specvlm.load(tmp_path, tmp_path)
    model = vlm.target.model
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    answer = vlm.generate(tiny.film(6), "what happens?", max_new_tokens=16, pruning_ratio=0.0)
    assert answer.token_ids == vlm.autoregressive(tiny.film(6), "what happens?", max_new_tokens=16).token_ids
    assert answer.stats.num_accepted > 0


@pytest.mark.part(2)
@every_family
def test_equal_towers_are_found_out_and_kept_once(checkpoints, family, tmp_path):
    """A draft that is loaded here gives its copy up; a model object belongs to its owner, and keeps its own."""
    path = checkpoints / family / "target"
    kin = tiny.noised(tiny.model(family), 0.05, same_vision=True)
    kin.save_pretrained(tmp_path)
    tiny.processor(family).save_pretrained(tmp_path)
    vlm = specvlm.load(path, tmp_path)
    assert vlm.pair.one_tower
    addresses = [{w.data_ptr() for part in side.tower for w in part.parameters()} for side in (vlm.target, vlm.draft)]
    assert addresses[0] == addresses[1]
    before = tiny.fingerprint(kin)
    owned = specvlm.load(path, kin, processor=tiny.processor(family))
    assert owned.pair.one_tower
    assert tiny.fingerprint(kin) == before
    assert not addresses[0] & {weight.data_ptr() for weight in kin.parameters()}
    assert not specvlm.load(path, checkpoints / family / "draft").pair.one_tower
    film, options = tiny.film(6), {"max_new_tokens": 16, "pruning_ratio": 0.5}
    answers = [pair.generate(film, "what happens?", **options) for pair in (vlm, owned)]
    assert answers[0].token_ids == answers[1].token_ids
    assert answers[0].stats.accepted_per_depth == answers[1].stats.accepted_per_depth


def refusal(*source, **options) -> str:
    with pytest.raises(SpecVLMError) as caught:
        specvlm.load(*source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 750  # a name of 200 and a reason of 500, and what joins them
    return message


def test_families_are_not_mixed(checkpoints):
    for target in ALL:
        for draft in ALL.keys() - {target}:
            message = refusal(checkpoints / target / "target", checkpoints / draft / "draft")
            assert f"is a {target} and draft" in message
            assert f"a {draft}: both must be of one family" in message


@pytest.mark.parametrize("model_type", ["qwen3_next", "lfm2_vl", "qwen2", "gemma3", "llava", "mamba"])
def test_other_kinds_are_refused_by_their_config_alone(tmp_path, model_type):
    """Before any weights are read: there are none here."""
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    assert refusal(tmp_path) == f"{tmp_path} is a {model_type}, which is not supported; supported are {SUPPORTED}"


def test_recurrent_layers_inside_a_supported_kind_are_refused_by_name(checkpoints, tmp_path):
    """No published checkpoint is like that; the cache would be wrong without a word."""
    path = checkpoints / "qwen2_5_vl" / "target"
    model = load_family(path).model
    model.config.text_config.layer_types = ["linear_attention", "full_attention", "full_attention"]
    with pytest.raises(ModelError, match="linear_attention"):
        load_family(model, processor=tiny.processor("qwen2_5_vl"))


@every_family
def test_a_config_without_a_known_kind_is_refused(checkpoints, family, tmp_path):
    config = json.loads((checkpoints / family / "target" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "qwen9_vl"}))
    assert f"can't load {tmp_path} as a checkpoint" in refusal(tmp_path)
