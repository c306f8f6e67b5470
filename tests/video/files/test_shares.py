"""Shares of a film for decoders side by side: complete, in order, begun where that is safe, and few frames in hand."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specvlm.video.files.packets import Packet, entries, joined, needed, plan, reaches
from specvlm.video.files.shares import ALONE, HELD, LEAST, MOST_HELD, Crew, cores, crew, shares

FULL_HD = 1920 * 1080


@st.composite
def films(draw):
    """Packets in decode order, which is that of presentation, and the ticks wanted."""
    number = draw(st.integers(1, 400))
    keys = draw(st.sets(st.integers(0, number - 1))) | {0}
    fresh = draw(st.sets(st.sampled_from(sorted(keys))))
    spare = draw(st.sets(st.integers(0, number - 1))) - keys
    packets = [
        Packet(tick, tick, 1, 1, tick in keys, is_spare=tick in spare, is_fresh=tick in fresh) for tick in range(number)
    ]
    return packets, draw(st.sets(st.integers(0, number - 1), min_size=1))


@given(films(), st.integers(1, 64))
def test_every_frame_is_in_one_share_and_decoded_there(film, most):
    packets, wanted = film
    found = shares(packets, wanted, needed(packets, wanted), most)
    assert [tick for share in found for tick in share.ticks] == sorted(wanted)
    assert 1 <= len(found) <= most
    for share in found:
        assert share.runs == tuple(plan(packets, share.ticks, entries(packets)))
        assert all(any(tick in run for run in share.runs) for tick in share.ticks)


@given(films(), st.integers(1, 64))
def test_a_share_begins_at_a_fresh_start_or_where_one_alone_would_have_leapt_to(film, most):
    packets, wanted = film
    leaps = {run.start for run in joined(reaches(packets, wanted, entries(packets)))}
    for share in shares(packets, wanted, needed(packets, wanted), most)[1:]:
        start = share.runs[0].start
        assert packets[start].is_fresh or start in leaps or start == 0  # too near to the start of the file to leap


def test_shares_cost_about_as_much_each():
    packets = [Packet(tick, tick, 1, 1, tick % 10 == 0, is_fresh=tick % 10 == 0) for tick in range(1000)]
    found = shares(packets, range(0, 1000, 5), frozenset(range(1000)), 8)
    assert [sum(map(len, share.runs)) for share in found] == pytest.approx([125] * 8, abs=10)


def test_few_packets_are_one_share():
    packets = [Packet(tick, tick, 1, 1, True, is_fresh=True) for tick in range(2 * LEAST)]
    assert len(shares(packets, range(2 * LEAST - 1), frozenset(range(2 * LEAST)), 8)) == 1
    assert len(shares(packets, range(2 * LEAST), frozenset(range(2 * LEAST)), 8)) == 2
    assert len(shares(packets, range(2 * LEAST), frozenset(range(LEAST)), 8)) == 1  # it is those fed that count


def test_a_film_without_fresh_starts_is_one_share():
    packets = [Packet(tick, tick, 1, 1, tick % 10 == 0) for tick in range(1000)]
    assert len(shares(packets, range(1000), frozenset(range(1000)), 8)) == 1


@given(st.integers(1, 1000), st.integers(1, 256), st.integers(0, 2**27))
def test_frames_in_hand_are_bounded(num_shares, num_cores, frame_pixels):
    team = crew(num_shares, num_cores, frame_pixels)
    assert team == ALONE or team.decoders * HELD * frame_pixels <= MOST_HELD
    assert team == ALONE or team.decoders * team.threads <= num_cores
    assert team.decoders <= max(num_shares, 1)


def test_one_core_or_one_share_is_left_to_ffmpeg():
    assert crew(64, 1, FULL_HD) == crew(1, 64, FULL_HD) == ALONE == Crew(1, 0)
    assert crew(8, 2, FULL_HD) == Crew(2, 1)
    assert crew(3, 16, FULL_HD) == Crew(3, 5)
    assert crew(64, 64, FULL_HD) == Crew(16, 4)


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on a Mac
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1
