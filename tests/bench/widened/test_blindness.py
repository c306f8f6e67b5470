"""What tells blank patches from others, and how far it can keep attention away from them."""

from __future__ import annotations

import math

import pytest
import torch

from specvlm.bench.widened.blindness import DISLIKE, REACH, separate
from specvlm.errors import ModelError


def clouds(distance: float, num_real: int = 400, num_blank: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    real, blank = (torch.randn(count, 12, generator=generator) for count in (num_real, num_blank))
    return real, blank + torch.linspace(0, 1, 12) * distance


@pytest.mark.parametrize(("num_real", "num_blank"), [(400, 20), (50, 50), (30, 300)])
def test_the_nearest_of_both_sides_are_as_far_from_the_plane(num_real, num_blank):
    real, blank = clouds(30, num_real, num_blank)
    weight, bias = separate(real, blank)
    assert weight.dtype == torch.float64
    assert float((blank.double() @ weight + bias).min()) == pytest.approx(REACH)
    assert float((real.double() @ weight + bias).max()) == pytest.approx(-REACH)


@pytest.mark.parametrize("distance", [0, 1, 3])
def test_what_is_not_well_apart_is_refused(distance):
    with pytest.raises(ModelError, match=r"can't tell blank frames from others: the gap between them is -?\d"):
        separate(*clouds(distance))


def test_blank_rows_that_are_all_alike_will_do():
    real, blank = clouds(30)
    weight, bias = separate(real, blank[:1].repeat(5, 1))
    assert float(blank[0].double() @ weight + bias) == pytest.approx(REACH)


def test_a_detector_keeps_gelu_at_nothing():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        said = torch.linspace(-REACH, -60, 1000, dtype=dtype)
        for act in (torch.nn.GELU(), torch.nn.GELU(approximate="tanh")):
            assert not act(said).any()


@pytest.mark.parametrize("head_dim", [64, 128])
def test_the_slowest_rotary_pair_dislikes_what_is_far_away_too(head_dim):
    angle = 10_000 * 10_000 ** (2 / head_dim - 1)
    assert DISLIKE**2 * math.cos(angle) / math.sqrt(head_dim) > 1000
