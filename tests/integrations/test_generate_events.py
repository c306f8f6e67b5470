"""What others hear and are asked while an answer is written: in the order of stock `generate`, each as often."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import EosTokenCriteria, LogitsProcessor, MaxLengthCriteria, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

import specvlm
import tiny
from integrations.calls import draft, inputs, same, target
from specvlm import Options, Stats
from specvlm.answering import request
from specvlm.answering.recipe import prepare_generation

Events = list[tuple[Any, ...]]


class Ear(BaseStreamer):
    """Notes what it hears, and throws dice at each token, as a listener may."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def put(self, value: torch.Tensor) -> None:
        self.events.append(("put", value.shape, value.dtype, value.tolist(), float(torch.rand(()))))

    def end(self) -> None:
        self.events.append(("end",))


class Asked(StoppingCriteria):
    """Notes what it is asked, and what had been heard by then; ends an answer of `most` tokens behind a prompt."""

    def __init__(self, events: Events, most: int = 10**6) -> None:
        self.events, self.most = events, most

    def __call__(self, input_ids, scores, **kwargs):
        heard = sum(event[0] == "put" for event in self.events)
        self.events.append(("asked", input_ids.shape, input_ids[0, -1].item(), scores, kwargs, heard))
        return torch.tensor([input_ids.shape[1] >= self.most])


class Chosen(LogitsProcessor):
    """Notes when the next token is chosen."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def __call__(self, input_ids, scores):
        self.events.append(("chosen", input_ids.shape))
        return scores


def events_of(ours: dict[str, Any], most: int = 10**6, **kwargs: Any) -> tuple[Events, list[int]]:
    events: Events = []
    torch.manual_seed(5)
    output = target().generate(
        **inputs(), max_new_tokens=14, streamer=Ear(events), stopping_criteria=[Asked(events, most)],
        logits_processor=[Chosen(events)], **kwargs, **ours,
    )  # fmt: skip
    return events, output[0].tolist()


@pytest.mark.parametrize("sampling", [{}, {"do_sample": True, "temperature": 0.7}], ids=["greedy", "sampled"])
@pytest.mark.parametrize("end", ["length", "eos", "criterion"])
def test_streamer_and_criteria_take_turns_as_in_stock_generate(sampling, end):
    length = inputs()["input_ids"].shape[1]
    free = events_of({}, **sampling)[1][length:]
    ending = {"length": {}, "eos": {"eos_token_id": free[7]}, "criterion": {"most": length + 8}}[end]
    ours = {"custom_generate": specvlm.custom_generate, "draft_model": target(), "pruning_ratio": 0.0, "tree": "chain"}
    stock = events_of({}, **sampling, **ending)
    assert events_of(ours, **sampling, **ending) == stock
    assert [event[0] for event in stock[0][-4:]] == ["chosen", "asked", "put", "end"]


class Sentence(EosTokenCriteria):
    """An end token that counts only from a length on."""

    def __init__(self, ids: list[int], shortest: int) -> None:
        super().__init__(ids)
        self.shortest = shortest

    def __call__(self, input_ids, scores, **kwargs):
        return super().__call__(input_ids, scores, **kwargs) & (input_ids.shape[1] >= self.shortest)


class Budget(MaxLengthCriteria):
    """A length that is counted in another way."""

    def __call__(self, input_ids, scores, **kwargs):
        return torch.tensor([2 * input_ids.shape[1] >= self.max_length])


def test_subclasses_of_the_criteria_that_every_answer_has_follow_their_own_rule():
    length, (free, _) = inputs()["input_ids"].shape[1], same()
    assert len(same(stopping_criteria=[Sentence(free[:4], length + 99)])[0]) == len(free)
    assert len(same(stopping_criteria=[Budget(2 * (length + 9))])[0]) == 9
    assert len(same(stopping_criteria=[Budget(length + 5)])[0]) == 1  # by stock's rule of the same number 5


def test_an_end_token_may_be_a_single_number():
    free, _ = same()
    assert same(stopping_criteria=[EosTokenCriteria(torch.tensor(free[5]))])[0] == free[: free.index(free[5]) + 1]


def test_a_listener_hears_rounds_that_the_device_plays():
    vlm, options = tiny.pair(target(), draft()), Options(rounds="device", tree="chain", max_new_tokens=12)
    stats, heard = Stats(), []
    prompt = vlm.prepare(tiny.film(4, 0), "what happens?", options, stats)
    recipe = prepare_generation(vlm.target, prompt.input_ids, options)
    sequence = request.begin(vlm.pair, prompt, recipe, options, stats)
    sequence.listener = heard.append
    told = [token for tokens in request.run(vlm.pair, prompt, options, sequence) for token in tokens]
    assert stats.on_host_because is None
    assert heard == told == sequence.tokens
    assert len(told) == 12
