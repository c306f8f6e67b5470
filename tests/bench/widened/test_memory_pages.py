"""Memory that was written is told from memory that only looks as if it were."""

from __future__ import annotations

import mmap

import pytest
import torch

from bench.small import never_written, small
from specvlm.bench.widened.memory_pages import own_bytes
from specvlm.bench.widened.shapes import Shape
from specvlm.bench.widened.widening import widen
from specvlm.engine.host.memory import resident_memory
from specvlm.engine.stats import peak_memory_bytes, reset_peak_memory

SHAPE = Shape("100 MB", 512, 7, 64, 4, 8, 3000, 32_000, tied=False)


def test_memory_that_was_written_is_ones_own():
    tensor = never_written(40_000_000)  # torch.empty may hand out what somebody has written and freed
    assert own_bytes(tensor) <= 2 * mmap.PAGESIZE
    tensor.fill_(0)
    assert own_bytes(tensor) == tensor.nbytes


def test_memory_that_was_only_read_is_not():
    zeros = never_written(40_000_000)
    assert int(zeros.sum()) == 0
    assert own_bytes(zeros) <= 2 * mmap.PAGESIZE
    zeros[:20_000_000] = 1
    assert own_bytes(zeros) == pytest.approx(20_000_000, rel=0.2)


def test_little_tensors_count_by_their_bytes():
    assert own_bytes(torch.ones(3)) == 12
    assert own_bytes(torch.ones(0)) == 0


def test_a_widened_model_is_written_to_the_last_page_and_holds_nothing_twice():
    source = small("llava_onevision")
    reset_peak_memory()
    before = resident_memory()
    wide = widen(source, SHAPE)
    weights = list(wide.parameters())
    size = sum(weight.nbytes for weight in weights)
    assert size > 100e6
    assert sum(own_bytes(weight) for weight in weights) == size
    assert peak_memory_bytes() - before < 1.25 * size + 40e6


def test_hardly_a_page_of_a_widened_model_is_all_zeros():
    wide = widen(small("llava_onevision"), SHAPE)
    pages = zeros = 0
    for weight in wide.parameters():
        flat = weight.detach().flatten().view(torch.uint8)
        whole = flat[: len(flat) // mmap.PAGESIZE * mmap.PAGESIZE].view(-1, mmap.PAGESIZE)
        pages, zeros = pages + len(whole), zeros + int((whole.any(1) == 0).sum())
    assert pages > 20_000
    assert zeros / pages < 0.01
