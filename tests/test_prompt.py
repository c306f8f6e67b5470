"""Prompt: where the video ends, and what is left of it after pruning."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specvlm.errors import OptionError
from specvlm.prompt import Prompt

VIDEO, TEXT = 99, 1


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
    return Prompt(input_ids, position_ids, video_mask, frame_ids, place_ids, {"pixels": torch.ones(2)})


def same(a: Prompt, b: Prompt) -> bool:
    names = ("input_ids", "position_ids", "video_mask", "frame_ids", "place_ids")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


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
    ids = torch.arange(6)
    prompt = Prompt(ids, ids[None], mask, frame_ids=torch.tensor([0, 1]), place_ids=torch.tensor([0, 0]))
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
    assert torch.equal(prompt.prune(kept, "original").position_ids, expected)


@given(prompts(), st.data())
def test_compact_positions_have_no_gap_and_the_same_order_and_ties(prompt, data):
    kept = data.draw(subsets(prompt.num_video_tokens))
    original = prompt.prune(kept, "original").position_ids
    compact = prompt.prune(kept, "compact").position_ids
    for before, after in zip(original, compact, strict=True):
        assert after.unique().tolist() == list(range(len(before.unique())))
        assert torch.equal((before[:, None] - before).sign(), (after[:, None] - after).sign())


def test_compact_closes_the_gaps_of_each_row():
    pruned = prompt_of(before=2, num_frames=3, num_places=3, after=2, rows=3).prune(torch.tensor([0, 2, 8]), "compact")
    assert pruned.position_ids.tolist() == [
        [0, 1, 2, 2, 3, 4, 5],  # frames 0, 0, 2
        [0, 1, 2, 3, 3, 4, 5],  # places 0, 2, 2
        [0, 1, 2, 2, 2, 3, 4],
    ]


@given(prompts())
def test_keeping_everything_changes_nothing(prompt):
    assert same(prompt.prune(torch.arange(prompt.num_video_tokens), "original"), prompt)


@given(prompts(rows=(1,)))
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
    names = ("input_ids", "position_ids", "video_mask", "frame_ids", "place_ids")
    before = {name: getattr(prompt, name).clone() for name in names}
    prompt.prune(data.draw(subsets(prompt.num_video_tokens)), positions)
    assert all(torch.equal(getattr(prompt, name), tensor) for name, tensor in before.items())


def test_an_unknown_position_policy_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    with pytest.raises(OptionError, match="'compact' or 'original', not 'dense'"):
        prompt_of(1, 1, 2, 1).prune(torch.tensor([0]), "dense")
