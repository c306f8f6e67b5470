"""Models that accelerate spreads (`device_map`): weights that come and go, layer by layer.

There is one device here, so what is tested is all but a second device: accelerate's hooks on every module, and weights
that are on no device between two forwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedModel

import tiny

pytestmark = pytest.mark.filterwarnings("ignore:The following device_map keys do not match")  # a parameter of LLaVA's

ON_DISK = ("model.language_model.layers.1", "lm_head")
EYES_AND_WORDS = ("model.vision_tower", "model.visual", "model.language_model.embed_tokens")
"""What is read before the first layer, of either kind of model."""

ASKED = {"max_new_tokens": 24, "pruning_ratio": 0.5, "do_sample": False}


@pytest.fixture(scope="module", params=tuple(tiny.BUILDERS))
def split(request, tmp_path_factory) -> PreTrainedModel:
    """A model whose second layer and output head are on disk."""
    return spread(request.param, ON_DISK, tmp_path_factory.mktemp(request.param))


def spread(family: str, on_disk: tuple[str, ...], folder: Path) -> PreTrainedModel:
    whole = tiny.model(family, 0, layers=2)
    whole.save_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, device_map=dict(places(whole, on_disk)), offload_folder=folder / "offloaded"
    )
    assert elsewhere(model) == {name for name, _ in whole.named_parameters() if name.startswith(on_disk)}
    return model


def places(module: nn.Module, on_disk: tuple[str, ...], name: str = "") -> Iterator[tuple[str, str]]:
    """A device map: each module that holds nothing that is on disk, and each that is."""
    if name in on_disk:
        yield name, "disk"
    elif any(there.startswith(name and f"{name}.") for there in on_disk):
        for child, part in module.named_children():
            yield from places(part, on_disk, f"{name}.{child}".lstrip("."))
        for weight, _ in module.named_parameters(recurse=False):
            yield f"{name}.{weight}".lstrip("."), "cpu"
    else:
        yield name, "cpu"


def elsewhere(model: nn.Module) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.is_meta}


def test_weights_that_are_on_disk_are_on_no_device(split):
    assert tiny.family(split).devices == (torch.device("cpu"),)


@pytest.mark.part(2)
@pytest.mark.parametrize("plan", ["fixed", "auto"])
def test_answers_are_those_of_the_model_in_one_piece(split, plan):
    whole = tiny.model(split.config.model_type, 0, layers=2)
    vlm = tiny.pair(split, tiny.noised(whole, 0.02))
    missing = elsewhere(split)
    answer = vlm.generate(tiny.film(6, 3), "what happens?", plan=plan, **ASKED)
    right = tiny.pair(whole, None).autoregressive(tiny.film(6, 3), "what happens?", **ASKED)
    assert answer.token_ids == right.token_ids
    assert answer.token_ids == vlm.autoregressive(tiny.film(6, 3), "what happens?", **ASKED).token_ids
    assert answer.stats.num_accepted > 0 or plan == "auto"  # which may find that drafting doesn't pay here
    assert elsewhere(split) == missing  # what was fetched was put back


def test_it_drafts_for_itself_too(split):
    vlm = tiny.pair(split, "self")
    answer = vlm.generate(tiny.film(6, 3), "what happens?", **ASKED)
    assert answer.token_ids == vlm.autoregressive(tiny.film(6, 3), "what happens?", **ASKED).token_ids


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
def test_so_are_those_of_a_model_whose_tower_and_embedding_are_brought(family, tmp_path):
    """Where its first weights are, nothing can be computed: their hooks know where they will be."""
    whole, model = tiny.model(family, 0, layers=2), spread(family, EYES_AND_WORDS, tmp_path)
    vlm, missing = tiny.pair(model, tiny.noised(whole, 0.02)), elsewhere(model)
    answer = vlm.generate(tiny.film(6, 3), "what happens?", **ASKED)
    assert answer.token_ids == vlm.autoregressive(tiny.film(6, 3), "what happens?", **ASKED).token_ids
    assert answer.stats.num_accepted > 0
    assert elsewhere(model) == missing


def test_so_are_those_of_a_model_all_of_which_is_brought():
    """Also what no call brings, as it is read by itself: the newline behind a video. Stock `generate` fails there."""
    whole = tiny.model("llava_onevision", 0, layers=2)
    away = cpu_offload(tiny.model("llava_onevision", 0, layers=2), execution_device=torch.device("cpu"))
    assert all(weight.is_meta for weight in away.parameters())
    vlm = tiny.pair(away, tiny.noised(whole, 0.02))
    assert vlm.pair.devices == (torch.device("cpu"),)
    answer = vlm.generate(tiny.film(6, 3), "what happens?", **ASKED)
    assert (
        answer.token_ids == tiny.pair(whole, None).autoregressive(tiny.film(6, 3), "what happens?", **ASKED).token_ids
    )
