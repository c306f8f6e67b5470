"""TextStream: the pieces join to what the tokenizer makes of the whole answer, whatever the tokens are."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

import tiny
from specvlm.answering.text import TextStream

TOKENIZER = tiny.tokenizer()
IDS = st.integers(0, tiny.VOCABULARY - 1)
"""Of everything that a model can emit: words, bytes, halves of characters, special tokens, ids that mean nothing."""


WORDS = ("<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁a", "▁red", "a", "▁", "▁▁", "ä", "\ufffd")
"""Of a tokenizer with byte fallback: two special tokens, bytes, and tokens with text of their own."""

FALLBACK_IDS = st.one_of(st.sampled_from([0, 1, *range(258, 270)]), st.integers(2, 257))


@lru_cache
def byte_fallback() -> PreTrainedTokenizerFast:
    """A tokenizer as Llama 2 and Mistral have it."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    inner = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    strip = decoders.Strip(content=" ", left=1, right=0)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip]
    inner.decoder = decoders.Sequence(parts)
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="</s>")


def in_bytes(text: str) -> list[int]:
    return [2 + byte for byte in text.encode()]


def streamed(rounds: list[list[int]], tokenizer: PreTrainedTokenizerFast = TOKENIZER) -> tuple[list[str], str]:
    """The pieces that are shown, and the whole text."""
    stream = TextStream(tokenizer)
    pieces = [stream.add(ids) for ids in rounds]
    rest, whole = stream.finish()
    return [*pieces, rest], whole


@given(st.lists(st.lists(IDS, max_size=6), max_size=12))
def test_pieces_join_to_the_whole_whatever_a_model_says(rounds):
    pieces, whole = streamed(rounds)
    ids = [token for tokens in rounds for token in tokens]
    assert whole == TOKENIZER.decode(ids, skip_special_tokens=True)
    assert "".join(pieces) == whole


@given(st.text(max_size=30), st.integers(1, 4))
@example("größer 深い 🎈 e\u0301", 1)
def test_any_text_comes_through_and_no_piece_holds_half_a_character(text, size):
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    pieces, whole = streamed([ids[i : i + size] for i in range(0, len(ids), size)])
    assert "".join(pieces) == whole == TOKENIZER.decode(ids, skip_special_tokens=True)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_word_is_shown_as_soon_as_it_is_known():
    ids = TOKENIZER.encode("a red ball", add_special_tokens=False)
    stream, shown = TextStream(TOKENIZER), ""
    for i, token in enumerate(ids, start=1):
        shown += stream.add([token])
        assert shown == TOKENIZER.decode(ids[:i])


def test_a_character_of_several_tokens_waits_until_it_is_whole():
    ids = TOKENIZER.encode("🎈", add_special_tokens=False)
    assert len(ids) == 4
    stream = TextStream(TOKENIZER)
    assert [stream.add([token]) for token in ids] == ["", "", "", "🎈"]
    assert stream.finish() == ("", "🎈")


def test_an_answer_cut_inside_a_character_ends_with_its_stub():
    ids = TOKENIZER.encode("a🎈", add_special_tokens=False)[:-1]
    pieces, whole = streamed([ids])
    assert pieces[0] == "a"
    assert whole == "".join(pieces) == TOKENIZER.decode(ids)


@pytest.mark.parametrize("token", ["<|im_end|>", "<pad>", "<video>"])
def test_special_tokens_are_not_shown(token):
    stream = TextStream(TOKENIZER)
    assert stream.add([TOKENIZER.convert_tokens_to_ids(token)]) == ""
    assert stream.finish() == ("", "")


@given(st.lists(FALLBACK_IDS, max_size=12))
@example([2 + ord("a"), 2 + 0xE6, 258])  # of a run of bytes that isn't UTF-8 as a whole no character is one
@example([263, 2 + ord("a"), 2 + 0xF3, 1, 1, 258])
def test_with_byte_fallback_pieces_join_to_the_whole_too(ids):
    pieces, whole = streamed([[token] for token in ids], byte_fallback())
    assert "".join(pieces) == whole == byte_fallback().decode(ids, skip_special_tokens=True)


def test_a_run_of_bytes_comes_whole_with_the_word_behind_it():
    first, last = WORDS.index("▁a"), WORDS.index("▁red")
    pieces, _ = streamed([[token] for token in (first, *in_bytes("深い"), 1, last, *in_bytes("ö"))], byte_fallback())
    assert [piece for piece in pieces if piece] == ["a", "深い red", "ö"]


def test_other_words_do_not_wait():
    ids = [WORDS.index(word) for word in ("▁a", "▁red", "▁", "ä", "▁▁", "a")]
    assert streamed([[token] for token in ids], byte_fallback())[0] == ["a", " red", " ", "ä", "  ", "a", ""]
