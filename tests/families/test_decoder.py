"""HFDecoder: a tree's logits are those of its branches one by one, and the model is left as it was found."""

from __future__ import annotations

import copy
from functools import lru_cache

import pytest
import torch
from torch import Tensor

import tiny
from engine.trees import all_parents, words
from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.decoder import Embeds
from specvlm.engine.loop import prefill
from specvlm.engine.sampling import Chooser
from specvlm.engine.sequence import Sequence, Stopping
from specvlm.engine.tree import PAPER_TREE, DraftTree
from specvlm.errors import ModelError
from specvlm.families import Family
from specvlm.families.decoder import HFDecoder
from specvlm.prompts.prompt import Prompt

EXACT = {torch.float64: 1e-11, torch.float32: 1e-4}
HEADS = [(4, 2), (4, 4), (4, 1), (7, 1)]


@lru_cache
def model(dtype: torch.dtype = torch.float64, heads: int = 4, kv_heads: int = 2):
    return tiny.llava_model(0, hidden=8 * heads, heads=heads, kv_heads=kv_heads, dtype=dtype)


@lru_cache
def prompt() -> Prompt:
    return tiny.llava(model()).prepare([tiny.video(6)], "what happens?")


def decoder_of(stock) -> HFDecoder:
    return HFDecoder(stock, "tiny")


def embeds_of(family: Family, prompt: Prompt) -> Embeds:
    return family.embed(prompt, family.see(prompt))


def prefilled(stock) -> tuple[HFDecoder, TreeCache, Tensor]:
    """A decoder that has read the prompt, and the logits that follow."""
    family = tiny.llava(stock)
    cache = family.decoder.new_cache(prompt().num_tokens + 30)
    logits = family.decoder.prefill(embeds_of(family, prompt()), prompt().position_ids, cache)
    return family.decoder, cache, logits


def stock_logits(stock, answer: tuple[int, ...]) -> Tensor:
    """Logits after prompt and answer, by the model's own forward without a cache."""
    ids = torch.cat([prompt().input_ids, torch.tensor(answer, dtype=torch.long)])[None]
    pixels = prompt().model_inputs["pixel_values_videos"].to(stock.dtype)
    with torch.no_grad():
        return stock(input_ids=ids, pixel_values_videos=pixels).logits[0, -1]


def step(
    decoder: HFDecoder, cache: TreeCache, tree: DraftTree, *, as_stock: bool = False, last: int | None = None
) -> Tensor:
    """With a mask of the `last` columns."""
    positions = (prompt().num_tokens + torch.tensor(tree.depths))[None]
    mask = torch.cat([torch.ones(len(tree), cache.length, dtype=torch.bool), tree.mask], dim=1)
    mask = mask[:, cache.length + len(tree) - (last or len(tree)) :]
    return decoder.step(torch.tensor(tree.tokens), positions, mask, cache, as_stock=as_stock)


TREES = [
    DraftTree((5,), (-1,)),
    *(DraftTree((5, 6, 7, 8), parents) for parents in all_parents(4)),
    DraftTree(tuple(range(20, 46)), PAPER_TREE.parents),
]


@pytest.mark.parametrize("as_stock", [False, True])
@pytest.mark.parametrize("dtype", EXACT, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
def test_logits_of_a_tree_are_those_of_its_branches_one_by_one(dtype, heads, kv_heads, as_stock):
    stock = model(dtype, heads, kv_heads)
    decoder, cache, first = prefilled(stock)
    expected = stock_logits(stock, ())
    scale = float(expected.abs().max())
    assert torch.allclose(first, expected, rtol=0, atol=EXACT[dtype] * scale)
    for tree in TREES:
        logits = step(decoder, cache, tree, as_stock=as_stock)
        for node in {0, len(tree) // 2, len(tree) - 1}:
            branch = stock_logits(stock, (tree.tokens[0], *words(tree, node)))
            assert torch.allclose(logits[node], branch, rtol=0, atol=EXACT[dtype] * scale)
        cache.rollback(len(tree))


@pytest.mark.parametrize("as_stock", [False, True])
@pytest.mark.parametrize("rows", [4, 26], ids="{} rows".format)
def test_what_is_before_a_masks_columns_is_seen_by_all(rows, as_stock):
    """To the bit, however many columns the mask has."""
    decoder, cache, _ = prefilled(model(torch.float32))
    tree, length = next(tree for tree in reversed(TREES) if len(tree) == rows), cache.length
    said = []
    for last in (rows, rows + 7, length + rows):
        said.append(step(decoder, cache, tree, as_stock=as_stock, last=last))
        cache.rollback(rows)
    assert torch.equal(said[0], said[1])
    assert torch.equal(said[0], said[2])


def test_what_is_kept_of_a_tree_is_as_if_it_alone_had_been_read():
    stock = model()
    decoder, cache, _ = prefilled(stock)
    tree = DraftTree((5, 6, 7, 8, 9), (-1, 0, 0, 2, 2))
    step(decoder, cache, tree)
    cache.keep((0, 2, 4), len(tree))
    positions = torch.tensor([[prompt().num_tokens + 3]])
    logits = decoder.step(torch.tensor([11]), positions, None, cache)
    assert torch.allclose(logits[0], stock_logits(stock, (5, 7, 9, 11)), rtol=0, atol=1e-9)


def test_tokens_without_a_mask_are_read_one_after_the_other():
    stock = model()
    decoder, cache, _ = prefilled(stock)
    positions = prompt().num_tokens + torch.arange(3)[None]
    logits = decoder.step(torch.tensor([5, 6, 7]), positions, None, cache)
    for i in range(3):
        assert torch.allclose(logits[i], stock_logits(stock, (5, 6, 7)[: i + 1]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 2, 7, 46, 47])
def test_a_prompt_may_be_read_in_pieces(chunk):
    family = tiny.llava(model())
    embeds, cache = embeds_of(family, prompt()), family.decoder.new_cache(47)
    for start in range(0, len(embeds), chunk):
        end = min(start + chunk, len(embeds))
        logits = family.decoder.prefill(embeds.piece(start, end), prompt().position_ids[:, start:end], cache)
    assert torch.allclose(logits, prefilled(model())[2], rtol=0, atol=1e-10)


def test_the_prefill_computes_logits_for_the_last_position_only():
    """A vocabulary of 150 000 times 12 000 positions would be gigabytes of logits that nobody reads."""
    stock, rows = model(), []
    handle = stock.lm_head.register_forward_hook(lambda module, args, output: rows.append(output.shape[1]))
    try:
        prefilled(stock)
    finally:
        handle.remove()
    assert rows == [1]


def test_no_gradients_are_kept():
    decoder, cache, logits = prefilled(model())
    assert not logits.requires_grad
    assert not decoder.step(torch.tensor([5]), torch.tensor([[47]]), None, cache).requires_grad
    assert not decoder.embed(torch.tensor([5])).requires_grad


@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
def test_scores_are_the_attention_that_stock_eager_computes(heads, kv_heads):
    """Mean over layers, heads and the text behind the video, of what the eager model itself says it attended to.

    Eager attention takes its softmax in float32, whatever the model computes in.
    """
    stock = model(torch.float64, heads, kv_heads)
    family = tiny.llava(stock)
    embeds, cache, split = embeds_of(family, prompt()), family.decoder.new_cache(47), prompt().split
    recorder = ScoreRecorder(prompt().video_mask.nonzero()[:, 0], first_row=split)
    family.decoder.prefill(embeds, prompt().position_ids, cache, recorder)
    eager = copy.deepcopy(stock)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = eager.model.language_model(inputs_embeds=embeds.rows[None], output_attentions=True).attentions
    expected = torch.stack(attentions)[:, 0, :, split:].mean((0, 1, 2))[prompt().video_mask]
    assert len(expected) == prompt().num_video_tokens
    assert torch.allclose(recorder.scores(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_recorder_changes_no_bit_of_what_the_target_computes(dtype):
    """The target's numbers never depend on the pruner: whether it needs scores is all that a pruner could change."""
    family = tiny.llava(model(dtype))
    for seed in range(5):
        asked = family.prepare([tiny.video(6, seed=seed)], "what happens?")
        embeds, results = embeds_of(family, asked), []
        for recorder in (None, ScoreRecorder(asked.video_mask.nonzero()[:, 0], first_row=asked.split)):
            cache = family.decoder.new_cache(47)
            sequence = Sequence(asked.input_ids, 47, cache, Chooser(), Stopping(1))
            results.append((prefill(family.decoder, sequence, embeds, asked.position_ids, recorder), cache))
        (plain, plain_cache), (watched, watched_cache) = results
        assert torch.equal(plain, watched)
        for mine, theirs in zip(plain_cache.layers, watched_cache.layers, strict=True):
            assert torch.equal(mine.keys[:, :, :47], theirs.keys[:, :, :47])
            assert torch.equal(mine.values[:, :, :47], theirs.values[:, :, :47])


def test_a_forward_leaves_the_model_as_it_was_found():
    stock = model()
    prefilled(stock)  # transformers itself marks a vision tower when it first runs
    before = tiny.fingerprint(stock)
    decoder, cache, _ = prefilled(stock)
    step(decoder, cache, TREES[-1])
    assert tiny.fingerprint(stock) == before


def test_a_model_that_attends_in_a_way_of_its_own_is_refused(monkeypatch):
    """It would see neither the tree's mask nor the recorder, and nobody would notice."""
    stock = copy.deepcopy(model())
    for layer in stock.model.language_model.layers:
        monkeypatch.setattr(layer.self_attn, "forward", lambda hidden_states, **_: (hidden_states, None))
    decoder = HFDecoder(stock, "odd")
    with pytest.raises(ModelError, match="odd didn't ask transformers for its attention"):
        decoder.step(torch.tensor([5]), torch.tensor([[0]]), None, decoder.new_cache(4))


@pytest.mark.parametrize("failing_layer", [0, 1, 2])
def test_a_forward_that_breaks_off_leaves_model_and_cache_as_they_were(failing_layer):
    """Between two layers some have the new rows and some have not; afterwards none has."""
    stock = copy.deepcopy(model())
    decoder, cache, _ = prefilled(stock)
    held = cache.length

    def interrupt(*_):
        raise KeyboardInterrupt

    handle = stock.model.language_model.layers[failing_layer].mlp.register_forward_pre_hook(interrupt)
    before = tiny.fingerprint(stock)
    with pytest.raises(KeyboardInterrupt):
        step(decoder, cache, TREES[-1])
    assert tiny.fingerprint(stock) == before
    handle.remove()
    assert [layer.length for layer in cache.layers] == [held] * 3
    after = step(decoder, cache, TREES[-1])
    fresh, fresh_cache, _ = prefilled(stock)
    assert torch.equal(after, step(fresh, fresh_cache, TREES[-1]))


def test_an_id_beyond_the_table_reads_its_last_row():
    decoder = decoder_of(model())
    assert torch.equal(decoder.embed(torch.tensor([319, 320, 9999])), decoder.embed(torch.tensor([319, 319, 319])))


@pytest.mark.parametrize("kind", ["linear_attention", "conv"])
def test_layers_that_cannot_be_rolled_back_are_refused_by_name(kind):
    stock = tiny.llava_model(0)
    stock.model.language_model.config.layer_types = ["full_attention", kind, "full_attention"]
    with pytest.raises(ModelError, match=f"tiny has layers of type '{kind}'"):
        tiny.llava(stock)


def windowed(window: int):
    stock = tiny.llava_model(0, dtype=torch.float64)
    config = stock.model.language_model.config
    config.layer_types = ["full_attention", "sliding_attention", "sliding_attention"]
    config.sliding_window = window
    config.use_sliding_window = True
    return stock


def test_a_sliding_window_is_refused_once_an_answer_could_outgrow_it():
    decoder = tiny.llava(windowed(50)).decoder
    assert decoder.new_cache(50).length == 0
    with pytest.raises(ModelError, match=r"sliding window of 50 positions .* needs 51"):
        decoder.new_cache(51)
