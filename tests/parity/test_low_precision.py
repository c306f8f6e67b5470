"""bfloat16 and float16: every emitted token is the target's argmax, or within rounding of it, at every position."""

from __future__ import annotations

import pytest
import torch

import tiny
from parity.pairs import pair

EPSILON = {torch.bfloat16: 2**-5, torch.float16: 2**-8}
"""Of the spread of the logits: some steps of rounding (2^-8 and 2^-11 of a value) through three layers and the head."""


FAMILIES = ("llava_onevision", "qwen2_5_vl", "qwen3_vl")
"""No mixture of experts: rounding that sends a token to another expert has no bound of this kind, in stock code too."""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["twin", "close"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_position(dtype: torch.dtype, name: str, family: str, record_property) -> None:
    vlm = pair(name, dtype, family)
    exact = 0
    for seed in range(6):
        video = tiny.film(5, seed=seed)
        ours = vlm.generate(video, "what happens?", pruning_ratio=0.5, max_new_tokens=32)
        exact += ours.token_ids == vlm.autoregressive(video, "what happens?", max_new_tokens=32).token_ids
        logits = teacher_forced(vlm, video, ours.token_ids)
        chosen = logits.gather(1, torch.tensor(ours.token_ids)[:, None])[:, 0]
        behind = (logits.amax(-1) - chosen) / logits.std(-1)
        assert behind.max() <= EPSILON[dtype], f"token {int(behind.argmax())} is {behind.max():.4f} spreads behind"
        assert ours.stats.num_accepted > 0
    record_property("exact_match", f"{exact} of 6")


def test_a_wrong_token_is_noticed() -> None:
    """The control: swap one token for the runner-up of another position, and it is far behind."""
    vlm = pair("twin", torch.bfloat16)
    video = tiny.video(5)
    tokens = list(vlm.generate(video, "what happens?", max_new_tokens=32).token_ids)
    tokens[10] = (tokens[10] + 1) % 256
    logits = teacher_forced(vlm, video, tuple(tokens))
    chosen = logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    assert ((logits.amax(-1) - chosen) / logits.std(-1)).max() > 10 * EPSILON[torch.bfloat16]


@torch.no_grad()
def teacher_forced(vlm, video, tokens: tuple[int, ...]) -> torch.Tensor:
    """Stock forwards over the prompt and over all of the answer: the logits [len(tokens), vocab] before each token of it.

    Two, since a random model also says the place-holders of a video, which no forward takes beside a video.
    """
    prompt, model = vlm.target.prepare([video], "what happens?"), vlm.target.model
    inputs = dict(prompt.model_inputs)
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(model.dtype)
    with vlm.target.as_found():
        read = model(**inputs, use_cache=True)
        said = model(input_ids=torch.tensor([tokens]), past_key_values=read.past_key_values)
    return torch.cat([read.logits[0, -1:], said.logits[0, :-1]]).float()
