"""Snapshots: what an owner may do to a model shows, and what only looks so doesn't."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import peft
import pytest
import torch
from torch import nn

import tiny
from specvlm.engine.snapshot import ModelSnapshot


def small() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 4, bias=False)).eval()
    model.config = SimpleNamespace(layers=[0])
    return model


def train(model: nn.Sequential) -> None:
    model(torch.randn(5, 8)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()


CHANGES = {
    "a step of training": train,
    "another checkpoint": lambda model: model.load_state_dict(small().double().state_dict()),
    "in place": lambda model: model[0].weight.requires_grad_(False).mul_(2),
    "behind torch's back": lambda model: model[0].weight.data.add_(1e-3),  # as peft merges
    "other memory": lambda model: setattr(model[0].weight, "data", model[0].weight.data.clone()),
    "another parameter": lambda model: setattr(model[0], "weight", nn.Parameter(model[0].weight.detach().clone())),
    "another module": lambda model: model.__setitem__(2, nn.Linear(8, 4, bias=False)),
    "one more": lambda model: model.append(nn.Linear(4, 4)),
    "one less": lambda model: model.pop(2),
    "another dtype": lambda model: model.double(),
    "a buffer": lambda model: model[1].running_mean.add_(1),
    "a module without weights": lambda model: model.__setitem__(2, copy.deepcopy(model[2])),
    "a hook": lambda model: model[0].register_forward_hook(lambda *_: None),
    "a hook in front": lambda model: model[0].register_forward_pre_hook(lambda *_: None),
    "another forward": lambda model: setattr(model[0], "forward", model[2].forward),
    "a setting": lambda model: setattr(model[1], "eps", 0.1),
    "a config": lambda model: model.config.layers.append(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows(change):
    model = small()
    snapshot = ModelSnapshot(model)
    assert snapshot.still_true()
    CHANGES[change](model)
    assert not snapshot.still_true()


def test_what_is_no_change_does_not_show():
    model = tiny.llava_model(0)
    snapshot = ModelSnapshot(model)
    with torch.inference_mode():
        model.model.language_model(input_ids=torch.tensor([[1, 2, 3]]))
    copy.deepcopy(model)
    model.requires_grad_(False)
    model.train().eval()
    model.model.language_model.rotary_emb.register_buffer("inv_freq", torch.ones(4), persistent=False)
    assert snapshot.still_true()


def test_weights_of_inference_mode_and_of_no_size_and_on_no_device_are_looked_at_as_far_as_can_be():
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(4, 4), nn.ParameterList([nn.Parameter(torch.ones(0, 4))]))
    model.append(nn.Linear(4, 4, device="meta"))
    model[0].register_buffer("scattered", torch.ones(4, 4).T[1:])
    snapshot = ModelSnapshot(model)
    assert snapshot.still_true()
    model[2].weight = nn.Parameter(torch.ones(4, 4, device="meta"))  # as accelerate does after every forward
    assert snapshot.still_true()
    with torch.inference_mode():
        model[0].weight.mul_(2)
    assert not snapshot.still_true()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_the_state_of_adapters_is_a_part_of_it():
    model = tiny.llava_model(0, layers=1)
    snapshot = ModelSnapshot(model)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    assert not snapshot.still_true()
    adapted.add_adapter("second", peft.LoraConfig(target_modules=["q_proj"]))
    snapshot = ModelSnapshot(model)
    with adapted.disable_adapter():
        assert not snapshot.still_true()
    assert snapshot.still_true()
    adapted.set_adapter("second")
    assert not snapshot.still_true()
    adapted.set_adapter("default")
    layer = model.model.language_model.layers[0].self_attn.q_proj
    layer.set_scale("default", 3.0)
    assert not snapshot.still_true()
    layer.set_scale("default", 1.0)
    assert snapshot.still_true()
    adapted.merge_adapter()
    assert not snapshot.still_true()
    snapshot = ModelSnapshot(model)
    adapted.unload()
    assert not snapshot.still_true()
