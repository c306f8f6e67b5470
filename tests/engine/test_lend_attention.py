"""lend_attention: a model has its own attention back afterwards, whatever happened, and nothing stays registered."""

from __future__ import annotations

import threading

import pytest
from transformers import AttentionInterface, AttentionMaskInterface, Qwen2Config

from specvlm.engine.attention import NAME, lend_attention


@pytest.fixture(params=["sdpa", "eager", None], ids=str)
def config(request):
    made = Qwen2Config()
    made._attn_implementation = request.param
    return made


def registered() -> tuple[bool, bool]:
    return NAME in AttentionInterface(), NAME in AttentionMaskInterface()


def test_a_model_gets_its_own_back(config):
    before = config._attn_implementation, config.to_dict()
    assert registered() == (False, False)
    with lend_attention(config):
        assert config._attn_implementation == NAME
        assert registered() == (True, True)
    assert (config._attn_implementation, config.to_dict()) == before
    assert registered() == (False, False)


def test_it_gets_it_back_after_an_error_too(config):
    before = config._attn_implementation
    with pytest.raises(KeyboardInterrupt), lend_attention(config):
        raise KeyboardInterrupt
    assert config._attn_implementation == before
    assert registered() == (False, False)


def test_blocks_may_be_nested(config):
    before, other = config._attn_implementation, Qwen2Config()
    with lend_attention(config):
        with lend_attention(config), lend_attention(other):
            assert config._attn_implementation == other._attn_implementation == NAME
        assert config._attn_implementation == NAME
        assert other._attn_implementation is None
        assert registered() == (True, True)
    assert config._attn_implementation == before
    assert registered() == (False, False)


def test_threads_that_overlap_share_it_and_the_last_one_gives_it_back(config):
    """The first to come is the first to leave, while the second is still inside."""
    before = config._attn_implementation
    second_is_in, first_is_out = threading.Event(), threading.Event()
    seen = []

    def first():
        with lend_attention(config):
            second_is_in.wait(10)
        first_is_out.set()

    def second():
        with lend_attention(config):
            second_is_in.set()
            first_is_out.wait(10)
            seen.append((config._attn_implementation, registered()))

    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == [(NAME, (True, True))]
    assert config._attn_implementation == before
    assert registered() == (False, False)


def test_many_threads_leave_nothing_behind(config):
    before = config._attn_implementation
    wrong = []

    def come_and_go():
        for _ in range(200):
            with lend_attention(config):
                if config._attn_implementation != NAME or registered() != (True, True):
                    wrong.append(config._attn_implementation)

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert config._attn_implementation == before
    assert registered() == (False, False)
