"""Pixels that are made of frames as they come: those of the whole video, to the bit, and the same words around them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import tiny
from specvlm.families import Family, PixelBudget
from specvlm.families.pixels import FRAMES_PER_BATCH
from specvlm.prompts.prompt import Prompt
from specvlm.video import Video
from specvlm.video.screening.screening import Reel


def arriving(family: Family, clip: Video, taken: list[int], **asked: object) -> Prompt:
    """The prompt of a clip whose frames come one by one; `taken` has those that were asked for."""

    def frames() -> Iterator[np.ndarray]:
        for number, frame in enumerate(clip.frames):
            taken.append(number)
            yield frame

    prompt = family.prepare([Reel(clip)], "what happens?", **asked)
    return family.arriving(prompt, frames())


@pytest.mark.parametrize("size", [(24, 16), (33, 47), (270, 480)], ids=str)
@pytest.mark.parametrize("num_frames", [2, 3, 9, 12])
@pytest.mark.parametrize("name", tiny.BUILDERS)
def test_pixels_and_words_are_those_of_the_whole_video(name: str, num_frames: int, size: tuple[int, int]) -> None:
    family = tiny.family(tiny.model(name))
    clip = tiny.film(num_frames, height=size[0], width=size[1])
    budgets = [PixelBudget(), PixelBudget(min_pixels=600, max_pixels=2000, total_pixels=9000)]
    for pixels in budgets if name in tiny.QWEN else budgets[:1]:
        asked = {"pixels": pixels, "images": [tiny.image()] if name in tiny.QWEN else []}
        expected = family.prepare([clip], "what happens?", **asked)
        found = arriving(family, clip, taken := [], **asked)
        assert taken == []  # none is waited for by the words
        assert torch.equal(found.position_ids, expected.position_ids)
        assert found.model_inputs.keys() == expected.model_inputs.keys()
        for key, value in expected.model_inputs.items():
            assert torch.equal(found.model_inputs[key], value), key
            assert found.model_inputs[key].dtype == value.dtype
        assert taken == list(range(num_frames))


@pytest.mark.parametrize("name", tiny.BUILDERS)
def test_a_tower_waits_for_no_more_frames_than_it_sees(name: str) -> None:
    family = tiny.family(tiny.model(name, dtype=torch.float64))
    clip = tiny.film(20)
    whole = family.prepare([clip], "what happens?")
    prompt = arriving(family, clip, taken := [])
    first = (prompt.frame_ids < 2).nonzero()[:, 0]
    seen = family.see(prompt.prune(first, "original"))
    assert len(taken) <= 2 * FRAMES_PER_BATCH < 20
    again = family.see(prompt)
    assert len(taken) == 20
    expected = family.see(whole)
    for found, right in zip(again.states, expected.states, strict=True):
        assert torch.allclose(found, right, atol=1e-12)
    for found, right in zip(seen.states, expected.states, strict=True):
        assert torch.allclose(found, right[: len(found)], atol=1e-12)


def test_a_processor_that_nobody_knows_gets_the_whole_video() -> None:
    family = tiny.family(tiny.llava_model())
    assert family.takes_frames_as_they_come

    class Other(type(family.video_processor)):
        """Who knows what it does?"""

    processor = tiny.llava_processor()
    processor.video_processor.__class__ = Other
    assert not type(family)(family.model, processor, "other").takes_frames_as_they_come
