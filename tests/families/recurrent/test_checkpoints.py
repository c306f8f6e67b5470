"""Checkpoints of recurrent families by their path: how they can't be loaded, and what they are weighed at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen3_5Config

import specvlm
import tiny
from specvlm.engine.caches.recurrent_cache import RecurrentCache
from specvlm.engine.tree import PAPER_TREE
from specvlm.errors import ModelError
from specvlm.families import Family
from specvlm.families.checkpoints.keywords import Keywords
from specvlm.families.loading import Checkpoint
from specvlm.families.room.weighing import weigh

every_family = pytest.mark.parametrize("family", tiny.RECURRENT)


@pytest.fixture
def path(family: str, tmp_path: Path) -> Path:
    tiny.model(family).save_pretrained(tmp_path)
    tiny.processor(family).save_pretrained(tmp_path)
    return tmp_path


@every_family
def test_a_target_that_is_to_be_its_own_draft_is_refused_by_name(path: Path) -> None:
    """Out of a state that has read the video no token can be left."""
    with pytest.raises(ModelError) as caught:
        specvlm.load(path, "self")
    assert str(caught.value) == (
        f"{path} can't be its own draft: most of its layers fold the video into a state, out of which no token can be "
        "left; give a smaller model of its kind"
    )


def read(family: Family, parents: tuple[int, ...], cache: RecurrentCache) -> None:
    """Any tokens, each at position 0, in the branches of a tree."""
    count = len(parents)
    mask = torch.zeros(count, count, dtype=torch.bool)
    for node, parent in enumerate(parents):
        mask[node] = mask[parent] if parent >= 0 else False
        mask[node, node] = True
    family.decoder.step(torch.arange(count), torch.zeros(1, count, dtype=torch.long), mask, cache)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@every_family
def test_states_are_weighed_as_they_lie_in_memory(path: Path, dtype: str) -> None:
    """Beside the keys and values of the layers that attend; behind a token, and with a tree of any size held."""
    weight = weigh(Checkpoint.find(path, Keywords.of("target_kwargs", {"dtype": dtype})))
    assert weight is not None
    loaded = specvlm.load(path, dtype=dtype).target
    assert weight.weights == sum(each.nbytes for each in (*loaded.model.parameters(), *loaded.model.buffers()))
    cache = loaded.decoder.new_cache(128)
    assert isinstance(cache, RecurrentCache)
    read(loaded, (-1,), cache)
    cache.keep((0,), 1)
    assert cache.nbytes == 128 * weight.token + weight.states()
    for parents, tips in (((-1, 0, 1, 2), 1), ((-1, 0, 0, 0, 0), 4), (PAPER_TREE.parents, 2)):
        read(loaded, parents, cache)
        assert cache.state_bytes == weight.states(len(parents), tips)
        assert cache.nbytes == 128 * weight.token + cache.state_bytes
        most = cache.nbytes
        cache.keep((), len(parents))
    assert weight.with_cache(128) == weight.weights + most
    assert weight.with_cache(0) == weight.weights


def test_states_have_their_part_in_what_is_shown_before_anything_is_loaded(tmp_path: Path) -> None:
    """Of Qwen3.5-9B, in bfloat16: as much as 5,000 tokens of it take."""
    config = Qwen3_5Config(dtype="bfloat16")
    config.save_pretrained(tmp_path)
    weight = weigh(Checkpoint.find(tmp_path, Keywords.of("target_kwargs", None)))
    assert weight is not None
    assert weight.token == 2 * 8 * 4 * 256 * 2
    assert weight.cache(1000) == 1000 * weight.token + weight.states(26, 2)
    assert 150 << 20 < weight.states(26, 2) < 170 << 20
