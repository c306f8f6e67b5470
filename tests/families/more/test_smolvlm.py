"""What is special about SmolVLM2's processor: frames by the clock, videos filled up, images that it loses."""

from __future__ import annotations

import pytest
import torch

import tiny
from families.more.test_prompts import QUESTION, family, prepare, stock
from specvlm.errors import OptionError
from specvlm.video import Timeline


def test_the_most_frames_of_smolvlm_bound_its_own() -> None:
    ours, line = family("smolvlm"), Timeline.regular(3000, 30.0)
    assert len(ours.sampling()(line)) == 16
    assert len(ours.sampling(max_frames=5)(line)) == 5
    assert len(ours.sampling(max_frames=5, num_frames=3)(line)) == 3


def test_a_processor_without_the_settings_that_it_needs_is_refused_by_name() -> None:
    ours = tiny.family(tiny.model("smolvlm"))
    ours.video_processor.fps = None
    with pytest.raises(OptionError, match="can't choose frames here"):
        ours.sampling(num_frames=8)(Timeline.regular(100, 30.0))


def test_smolvlm_takes_videos_of_any_lengths_and_no_images_beside_them() -> None:
    """Its own processor loses the images; it fills short videos up, and the model leaves out what filled them."""
    ours, films = family("smolvlm"), [tiny.film(4), tiny.film(6), tiny.film(1)]
    with pytest.raises(OptionError, match="videos or images"):
        ours.prepare(films, QUESTION, images=[tiny.image()])
    prompt = ours.prepare(films, QUESTION)
    assert [int((prompt.clip_ids == clip).sum()) for clip in range(3)] == [16, 24, 4]
    calls, _ = stock("smolvlm", prompt, torch.float64, num_tokens=1)
    assert torch.allclose(ours.embed(prompt, ours.see(prompt)).rows, calls[0]["inputs_embeds"][0], rtol=0, atol=1e-11)


def test_a_square_that_smolvlm_should_see_a_part_of_is_refused() -> None:
    inputs = dict(prepare("smolvlm", "one video").model_inputs)
    seen = inputs["pixel_attention_mask"].clone()
    seen[0, 1, 8:] = 0
    with pytest.raises(OptionError, match="hides a part of a square"):
        family("smolvlm").prompt_from_inputs(inputs | {"pixel_attention_mask": seen})
