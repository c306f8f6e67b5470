"""One place knows what this transformers calls a cache; forwards that take another name would compute without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from packaging.version import Version
from transformers import AutoConfig, DynamicCache

import specvlm
import tiny
from specvlm.errors import ModelError
from specvlm.families import FAMILIES, family_of, releases
from specvlm.families.releases import CACHE_NAMES, SINCE, cache_in, cache_name, is_too_old_for, with_cache


@pytest.mark.parametrize("family", sorted(tiny.BUILDERS))
def test_a_cache_reaches_the_forward_and_comes_back(family):
    model = tiny.model(family)
    text = model.model.language_model
    cache = DynamicCache(config=text.config)
    output = text(input_ids=torch.tensor([[5, 6, 7]]), use_cache=True, **with_cache(text.forward, cache))
    assert cache.get_seq_length() == 3
    assert cache_in(output) is cache
    assert cache_name(text.forward) == cache_name(model.forward)


def test_the_signature_decides_and_not_what_is_swallowed():
    def before_524(input_ids, past_key_values=None, **kwargs):
        """5.23.0 takes `cache=` among its other keywords, too, and ignores it."""

    def since_524(input_ids, cache=None, **kwargs): ...

    def recurrent(input_ids, state=None, **kwargs): ...

    assert (cache_name(before_524), cache_name(since_524)) == ("past_key_values", "cache")
    with pytest.raises(TypeError, match=r"recurrent takes no cache by any of the names \('cache', 'past_key_values'\)"):
        cache_name(recurrent)


@pytest.mark.parametrize("name", CACHE_NAMES)
def test_a_cache_is_found_by_either_name(name):
    assert cache_in({"logits": 1, name: "here"}) == "here"
    assert cache_in({"logits": 1, name: None}) is None


@pytest.mark.parametrize("model_type", SINCE)
def test_a_family_that_this_release_is_too_old_for_is_refused_by_its_config_alone(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no weights here."""
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    monkeypatch.setattr(releases, "HERE", Version("5.22.2"))
    with pytest.raises(ModelError) as caught:
        specvlm.load(tmp_path)
    needed = SINCE[model_type]
    assert str(caught.value) == f"{tmp_path} is a {model_type}, which needs transformers >= {needed}; here is 5.22.2"
    monkeypatch.setattr(releases, "HERE", Version(needed))
    assert not is_too_old_for(model_type)
    assert family_of(model_type, "new enough") is FAMILIES[model_type]


def test_only_what_is_supported_has_a_release_of_its_own() -> None:
    assert SINCE.keys() < FAMILIES.keys()
