"""One place knows what this transformers calls a cache; forwards that take another name would compute without it."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

import tiny
from specvlm.families.releases import CACHE_NAMES, cache_in, cache_name, with_cache


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
