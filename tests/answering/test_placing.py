"""Where an answer's rounds are played, and what is said of those that stay on the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from parity.pairs import pair
from parity.test_lengths import turned
from specvlm.answering.options import Options
from specvlm.answering.placing import place
from specvlm.families.decoder import HFDecoder
from specvlm.families.device_decoder import HFDeviceDecoder
from specvlm.pipeline import SpecVLM

DEVICE, HOST = Options(rounds="device"), Options(rounds="host")
FAMILY = "qwen2_5_vl"
FILM = tiny.film(4, 1)


def why(vlm: SpecVLM, options: Options = DEVICE) -> str | None:
    placed = place(vlm.pair, options)
    assert (placed.stage is None) == (placed.reason is not None)
    return placed.reason


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_rounds_are_played_where_they_are_asked_for(family):
    vlm = pair("close", family=family)
    assert why(vlm) is None
    assert why(vlm, HOST) == "asked for"
    stage = place(vlm.pair, DEVICE).stage
    assert stage.arena.target.decoder is vlm.target.decoder
    assert stage.arena.draft.decoder is vlm.draft.decoder
    assert place(vlm.pair, DEVICE).stage is stage


def test_on_a_cpu_they_are_the_hosts_unless_the_device_is_asked_for():
    assert why(pair("close"), Options()) == "on cpu that is the default"


def test_on_cuda_they_are_the_devices(monkeypatch):
    vlm = tiny.pair(tiny.model(FAMILY), tiny.model(FAMILY, 1))
    monkeypatch.setattr(HFDecoder, "device", torch.device("cuda"))
    assert why(vlm, Options()) is None
    assert why(vlm, HOST) == "asked for"


def test_models_that_move_are_followed():
    vlm = tiny.pair(tiny.model(FAMILY), tiny.model(FAMILY, 1))
    before = place(vlm.pair, DEVICE).stage
    assert place(vlm.pair, DEVICE).stage is before
    for family in (vlm.target, vlm.draft):
        family.model.to(torch.float64)
    after = place(vlm.pair, DEVICE).stage
    assert after is not before
    assert after.target_cache(1).rows.dtype == torch.float64


@pytest.mark.parametrize("draft", ["self", None])
def test_without_a_second_model_nobody_guesses_there(draft):
    assert why(tiny.pair(tiny.model(FAMILY), draft)) == "there is no draft model"


def test_two_models_on_two_devices_are_the_hosts(monkeypatch):
    vlm = pair("close")
    monkeypatch.setattr(
        HFDecoder, "device", property(lambda self: torch.device("cpu" if self is vlm.target.decoder else "cuda"))
    )
    assert why(vlm) == "the two models are on different devices"


def hooked(model: Any) -> None:
    model.model.language_model.register_forward_pre_hook(lambda module, given: None)


def replaced(model: Any) -> None:
    inner = model.model.language_model
    inner.forward = inner.forward


def unknown(model: Any) -> None:
    model.model.language_model.config.model_type = "somebodys"


def scattered(model: Any) -> None:
    inner = model.model.language_model
    inner.norm.to("meta")


def absent(model: Any) -> None:
    model.model.language_model.to("meta")


WHOLE = "its language model is called as a whole"
CHANGES = {
    hooked: WHOLE,
    replaced: WHOLE,
    unknown: WHOLE,
    scattered: "it lies on several devices",
    absent: "not all of its weights are in memory",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("role", ["target", "draft"])
def test_a_model_of_which_only_the_host_can_make_a_step_is_named(change, role):
    vlm = tiny.pair(tiny.model(FAMILY), tiny.model(FAMILY, 1))
    family = getattr(vlm, role)
    change(family.model)
    assert why(vlm) == f"tiny {role}: {CHANGES[change]}"
    with pytest.raises(ValueError, match=CHANGES[change]):
        HFDeviceDecoder(family.decoder)


def test_so_is_one_whose_frequencies_hang_on_lengths():
    vlm = tiny.pair(tiny.model(FAMILY), turned(FAMILY, "dynamic", 600))
    assert why(vlm) == "tiny draft: its rotary frequencies hang on the length of a forward"


ANSWERED = {
    None: {},
    "stopping criteria look at the text": {"stop": ("never said",)},
    "what is too close to call is looked at again": {"strict": True},
}


@pytest.mark.parametrize("reason", ANSWERED, ids=str)
def test_the_statistics_say_why(reason):
    """Also of what shows only once the answer has begun."""
    vlm = pair("close")
    options = {"max_new_tokens": 8, **ANSWERED[reason]}
    answer = vlm.generate(FILM, "what?", rounds="device", **options)
    assert answer.token_ids == vlm.autoregressive(FILM, "what?", **options).token_ids
    assert answer.stats.rounds
    assert answer.stats.on_host_because == reason
