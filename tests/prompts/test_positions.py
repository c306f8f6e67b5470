"""compact: what is pruned leaves no gap in time, and nothing else is moved more than it must be."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from specvlm.prompts.positions import compact

Run = tuple[int, int, int, int]
"""A clip of t frames of h x w places with some time between them, or text of as many tokens (h = 0)."""


def prompt_of(runs: list[Run], *, after_time: bool) -> tuple[Tensor, Tensor]:
    """Positions [3, L] and clips [L]. What follows a clip starts behind its height and width or, with `after_time`,
    behind its time too: transformers has had both."""
    rows, clips, cursor = [], [], 0
    for number, (frames, height, width, gap) in enumerate(runs):
        if height == 0:
            rows.append(torch.arange(frames).expand(3, -1) + cursor)
            clips.append(torch.full((frames,), -1))
            cursor += frames
            continue
        time, up, across = torch.meshgrid(
            torch.arange(frames) * gap, torch.arange(height), torch.arange(width), indexing="ij"
        )
        rows.append(torch.stack([time, up, across]).reshape(3, -1) + cursor)
        clips.append(torch.full((frames * height * width,), number))
        cursor += max(height, width, (frames - 1) * gap + 1 if after_time else 0)
    return torch.cat(rows, 1), torch.cat(clips)


text = st.tuples(st.integers(1, 4), st.just(0), st.just(0), st.just(0))
clip = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Text, and then clips with text between them; some video tokens are kept, and all text."""
    runs = [draw(text)]
    for _ in range(draw(st.integers(0, 3))):
        runs += [draw(clip), draw(text)]
    positions, clips = prompt_of(runs, after_time=draw(st.booleans()))
    keeps = torch.tensor(draw(st.lists(st.booleans(), min_size=len(clips), max_size=len(clips))))
    return positions, clips, (keeps | (clips < 0)).nonzero()[:, 0]


@given(cases())
def test_text_stands_at_one_position_in_all_rows_and_keeps_its_steps(case):
    positions, clips, kept = case
    rows, is_text = compact(positions, clips, kept), clips[kept] < 0
    assert (rows[:, is_text] == rows[:1, is_text]).all()
    assert (rows[0, is_text].diff() >= 1).all()
    neighbours = (is_text[1:] & is_text[:-1]) & (kept.diff() == 1)
    assert (rows[0].diff()[neighbours] == 1).all()


@given(cases())
def test_a_frame_keeps_its_height_and_width_and_the_times_of_a_clip_are_its_first_ones(case):
    positions, clips, kept = case
    rows = compact(positions, clips, kept)
    for number in clips[kept].unique().tolist():
        if number < 0:
            continue
        here = clips[kept] == number
        whole = positions[:, clips == number]
        shift = rows[1:, here] - positions[1:, kept[here]]
        assert (shift == shift[0, 0]).all()
        times = positions[0, kept[here]].unique()
        assert rows[0, here].unique().tolist() == (whole[0].unique()[: len(times)] + shift[0, 0]).tolist()
        assert torch.equal(  # frames keep their order, tokens of a frame their common time
            rows[0, here].diff().sign(), positions[0, kept[here]].diff().sign()
        )


@given(cases())
def test_nothing_moves_back_and_nothing_moves_when_all_is_kept(case):
    positions, clips, kept = case
    assert (compact(positions, clips, kept) <= positions[:, kept]).all()
    assert torch.equal(compact(positions, clips, torch.arange(len(clips))), positions)


def test_an_example():
    """Two tokens of text, three frames of 2 x 2 at times 0, 4 and 8, two tokens of text; the first frame is gone."""
    positions, clips = prompt_of([(2, 0, 0, 0), (3, 2, 2, 4), (2, 0, 0, 0)], after_time=True)
    rows = compact(positions, clips, torch.tensor([0, 1, 6, 7, 13, 14, 15]))
    assert rows.tolist() == [
        [0, 1, 2, 2, 6, 7, 8],
        [0, 1, 2, 2, 3, 7, 8],
        [0, 1, 2, 3, 3, 7, 8],
    ]


def test_a_clip_that_is_gone_takes_no_room():
    positions, clips = prompt_of([(2, 0, 0, 0), (3, 2, 2, 4), (2, 0, 0, 0)], after_time=False)
    assert compact(positions, clips, torch.tensor([0, 1, 14, 15])).tolist() == [[0, 1, 2, 3]] * 3
