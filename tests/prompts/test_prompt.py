"""Prompt: where the video ends, and what is left of it after pruning."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specvlm.errors import OptionError
from specvlm.prompts.prompt import Prompt

VIDEO, TEXT = 99, 1
TENSORS = ("input_ids", "position_ids", "video_mask", "clip_ids", "frame_ids", "place_ids")


def prompt_of(before: int, num_frames: int, num_places: int, after: int, rows: int = 1) -> Prompt:
    """Text, a video, text. With three rows, positions as M-RoPE has them: frame, place and 0 inside the video."""
    M = num_frames * num_places
    video_mask = torch.tensor([False] * before + [True] * M + [False] * after, dtype=torch.bool)
    frame_ids = torch.arange(num_frames).repeat_interleave(num_places)
    place_ids = torch.arange(num_places).repeat(num_frames)
    if rows == 1:
        position_ids = torch.arange(len(video_mask))[None]
    else:
        video = torch.stack([frame_ids, place_ids, torch.zeros_like(place_ids)]) + before
        start = int(video.max()) + 1 if M else before
        text = torch.arange(before).expand(3, -1), torch.arange(start, start + after).expand(3, -1)
        position_ids = torch.cat([text[0], video, text[1]], dim=1)
    input_ids = torch.where(video_mask, VIDEO, TEXT + torch.arange(len(video_mask)) % 50)
    return Prompt(
        input_ids=input_ids,
        position_ids=position_ids,
        next_position=int(position_ids[0, -1]) + 1 if position_ids.numel() else 0,
        video_mask=video_mask,
        clip_ids=torch.zeros_like(frame_ids),
        frame_ids=frame_ids,
        place_ids=place_ids,
        model_inputs={"pixels": torch.ones(2)},
    )


def same(a: Prompt, b: Prompt) -> bool:
    return a.next_position == b.next_position and all(torch.equal(getattr(a, n), getattr(b, n)) for n in TENSORS)


@st.composite
def prompts(draw: st.DrawFn, rows: tuple[int, ...] = (1, 3)) -> Prompt:
    size = st.integers(0, 4)
    return prompt_of(draw(size), draw(size), draw(size), draw(size), draw(st.sampled_from(rows)))


def subsets(num_items: int) -> st.SearchStrategy[torch.Tensor]:
    return st.sets(st.integers(0, num_items - 1) if num_items else st.nothing()).map(
        lambda kept: torch.tensor(sorted(kept), dtype=torch.long)
    )


policies = st.sampled_from(["compact", "original"])


@pytest.mark.parametrize(
    ("before", "frames", "after", "split"), [(2, 3, 4, 8), (0, 3, 4, 6), (2, 3, 0, 8), (2, 0, 4, 0), (0, 0, 0, 0)]
)
def test_split_is_behind_the_last_video_token(before, frames, after, split):
    assert prompt_of(before, frames, 2, after).split == split


def test_split_counts_text_between_video_tokens():
    mask = torch.tensor([False, True, False, False, True, False])
    ids, two = torch.arange(6), torch.tensor([0, 1])
    prompt = Prompt(ids, ids[None], 6, mask, clip_ids=0 * two, frame_ids=two, place_ids=0 * two)
    assert prompt.split == 5
    assert prompt.kept_tokens(torch.tensor([1])).tolist() == [0, 2, 3, 4, 5]


@given(prompts(), st.data())
def test_all_text_and_the_kept_video_tokens_stay_in_order(prompt, data):
    kept = data.draw(subsets(prompt.num_video_tokens))
    places = [i for i, is_video in enumerate(prompt.video_mask.tolist()) if is_video]
    gone = set(places) - {places[i] for i in kept.tolist()}
    assert prompt.kept_tokens(kept).tolist() == [i for i in range(prompt.num_tokens) if i not in gone]


@given(prompts(), policies, st.data())
def test_a_pruned_prompt_is_a_prompt(prompt, positions, data):
    kept = data.draw(subsets(prompt.num_video_tokens))
    pruned, index = prompt.prune(kept, positions), prompt.kept_tokens(kept)
    assert torch.equal(pruned.input_ids, prompt.input_ids[index])
    assert torch.equal(pruned.video_mask, prompt.video_mask[index])
    assert pruned.num_tokens == prompt.num_tokens - prompt.num_video_tokens + len(kept)
    assert pruned.num_video_tokens == int(pruned.video_mask.sum()) == len(kept)
    assert pruned.position_ids.shape == (len(prompt.position_ids), pruned.num_tokens)
    assert pruned.position_ids.dtype == prompt.position_ids.dtype
    assert torch.equal(pruned.frame_ids, prompt.frame_ids[kept])
    assert torch.equal(pruned.place_ids, prompt.place_ids[kept])
    assert pruned.model_inputs is prompt.model_inputs


@given(prompts(), st.data())
def test_original_positions_are_those_of_the_full_prompt(prompt, data):
    kept = data.draw(subsets(prompt.num_video_tokens))
    expected = prompt.position_ids[:, prompt.kept_tokens(kept)]
    pruned = prompt.prune(kept, "original")
    assert torch.equal(pruned.position_ids, expected)
    assert pruned.next_position == prompt.next_position


@given(prompts(rows=(1,)), st.data())
def test_compact_positions_of_one_row_have_no_gap(prompt, data):
    pruned = prompt.prune(data.draw(subsets(prompt.num_video_tokens)), "compact")
    assert pruned.position_ids[0].tolist() == list(range(pruned.num_tokens))
    assert pruned.next_position == pruned.num_tokens


@given(prompts())
def test_keeping_everything_changes_nothing(prompt):
    assert same(prompt.prune(torch.arange(prompt.num_video_tokens), "original"), prompt)


@given(prompts())
def test_nothing_is_there_to_compact_when_everything_is_kept(prompt):
    assert same(prompt.prune(torch.arange(prompt.num_video_tokens), "compact"), prompt)


@given(prompts(), policies)
def test_keeping_nothing_leaves_the_text(prompt, positions):
    pruned = prompt.prune(torch.empty(0, dtype=torch.long), positions)
    assert pruned.input_ids.tolist() == prompt.input_ids[~prompt.video_mask].tolist()
    assert pruned.split == 0


@given(prompts(), policies, st.data())
def test_pruning_twice_is_pruning_once(prompt, positions, data):
    first = data.draw(subsets(prompt.num_video_tokens))
    second = data.draw(subsets(len(first)))
    twice = prompt.prune(first, positions).prune(second, positions)
    assert same(twice, prompt.prune(first[second], positions))


@given(prompts(), policies, st.data())
def test_pruning_leaves_the_prompt_alone(prompt, positions, data):
    before = {name: getattr(prompt, name).clone() for name in TENSORS}
    prompt.prune(data.draw(subsets(prompt.num_video_tokens)), positions)
    assert all(torch.equal(getattr(prompt, name), tensor) for name, tensor in before.items())


def test_an_unknown_position_policy_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    with pytest.raises(OptionError, match="'compact' or 'original', not 'dense'"):
        prompt_of(1, 1, 2, 1).prune(torch.tensor([0]), "dense")
