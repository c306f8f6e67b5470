"""Random models of published shapes, and what rounds cost with a tiny one of the kind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import Qwen3_5ForCausalLM
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig

import tiny
from specvlm.bench.recurrent import __main__ as command
from specvlm.bench.recurrent.measuring import KEPT, TREES, deepest_branch, measure
from specvlm.bench.recurrent.shapes import SHAPES, RecurrentShape, random_family
from specvlm.bench.recurrent.showing import tables, tokens
from specvlm.engine.caches.recurrent_cache import RecurrentCache
from specvlm.families import Family
from specvlm.families.recurrent.delta_net import held_bytes
from specvlm.planning.costs import Costs, PairCosts
from specvlm.planning.prediction import expected

SMALL = {
    "vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 8, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "linear_num_key_heads": 1, "linear_num_value_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
SHAPE = RecurrentShape("tiny", SMALL, repeats=True)
SHORT = SMALL | {"num_hidden_layers": 4}


@pytest.mark.parametrize(("name", "billions"), [("qwen3.5-9b", 8.95), ("qwen3.5-0.8b", 0.75)])
def test_shapes_have_as_many_parameters_as_the_published_ones(name: str, billions: float) -> None:
    """Of their language models: 9B has a head of its own."""
    config = Qwen3_5TextConfig(**SHAPES[name].text, tie_word_embeddings=SHAPES[name].drafts)
    with torch.device("meta"):
        model = Qwen3_5ForCausalLM(config)
    head = 0 if not SHAPES[name].drafts else model.lm_head.weight.numel()
    counted = sum(weight.numel() for part in (model.model, model.lm_head) for weight in part.parameters()) - head
    assert counted / 1e9 == pytest.approx(billions, rel=0.01)


def stepped(family: Family) -> torch.Tensor:
    """Logits of a chain behind some tokens."""
    cache = family.decoder.new_cache(16)
    for first in (5, 8):
        tokens = torch.arange(first, first + 3)
        logits = family.decoder.step(tokens, tokens[None], torch.ones(3, 3, dtype=torch.bool).tril(), cache)
        cache.keep((0, 1, 2), 3)
    return logits


def test_layers_share_weights_and_nothing_else() -> None:
    """It answers as a model of as many layers, with weights of their own that are the same, does."""
    family = random_family(SHAPE, torch.float32)
    text = family.decoder.language_model
    assert len(text.layers) == 8
    for first, again in zip(text.layers[:4], text.layers[4:], strict=True):
        assert again is not first
        assert [id(weight) for weight in again.parameters()] == [id(weight) for weight in first.parameters()]
    apart = random_family(RecurrentShape("apart", SMALL), torch.float32)
    for mine, theirs in zip(apart.decoder.language_model.layers, text.layers, strict=True):
        mine.load_state_dict(theirs.state_dict())
    apart.model.lm_head.load_state_dict(family.model.lm_head.state_dict())
    apart.decoder.language_model.norm.load_state_dict(text.norm.state_dict())
    logits = stepped(family)
    assert logits.isfinite().all()
    assert torch.equal(stepped(apart), logits)


def test_everything_is_measured_behind_the_same_context(monkeypatch: pytest.MonkeyPatch) -> None:
    family, lengths, kept = random_family(RecurrentShape("short", SHORT), torch.float32), [], []
    keep = RecurrentCache.keep

    def kept_of(cache: RecurrentCache, path: tuple[int, ...], num_nodes: int) -> None:
        lengths.append(cache.length - num_nodes)
        kept.append(len(path))
        keep(cache, path, num_nodes)

    monkeypatch.setattr(RecurrentCache, "keep", kept_of)
    found = measure(family, 40, repeats=2)
    assert set(lengths[1:]) == {40}  # behind the first token, which is none of a tree
    assert kept[1:] == 3 * list(KEPT.values())
    assert {name: len(times) for name, times in found.read.items()} == dict.fromkeys(TREES, 2)
    assert {name: len(times) for name, times in found.keep.items()} == {"1": 4, "4": 4}
    assert (len(found.stock), found.propose) == (2, {})
    config = family.decoder.language_model.config
    tips = {"one row": 1, "chain of 8": 1, "tree of 8": 1, "chain of 26": 1, "paper's tree of 26": 2}
    for name, template in TREES.items():
        nodes = 1 if template is None else template.max_nodes
        assert found.state_bytes[name] == held_bytes(config, torch.float32, nodes, tips[name])


def test_who_folds_nothing_is_measured_elsewhere() -> None:
    with pytest.raises(TypeError, match=r"folds nothing: .*specvlm\.bench\.steps"):
        measure(tiny.family(tiny.model("qwen2_5_vl")), 40)


def test_trees_are_what_they_are_called() -> None:
    for name, template in TREES.items():
        if template is not None:
            assert template.max_nodes == int(name.rpartition(" ")[2])
            assert (len(deepest_branch(name)) == template.max_nodes) == name.startswith("chain")
            on_paper = PairCosts(*[Costs((1, 64), (1.0, 1.0), 0.0, 0.0)] * 2)
            assert tokens(template, 0.7) == pytest.approx(expected(template, 0.7, on_paper, 0, 0).tokens)
    assert deepest_branch("tree of 8") == (0, 1, 3, 6, 7)
    assert tokens(None, 0.7) == 1.0


def test_the_page_is_that_of_the_documents() -> None:
    """Else: `python -m specvlm.bench.recurrent --shapes --page docs/models.md`."""
    root = Path(__file__).parents[3] / "docs"
    assert tables(command.read(root / "bench" / "recurrent")) in (root / "models.md").read_text(encoding="utf-8")


def test_the_command_leaves_documents_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of the target with the draft's guesses; a target alone has none."""
    shapes = {"big": RecurrentShape("big", SHORT), "small-1b": RecurrentShape("small-1b", SHORT, drafts=True)}
    monkeypatch.setattr(command, "SHAPES", shapes)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- recurrent -->\nold\n<!-- end of recurrent -->\nafter\n", encoding="utf-8")
    given = ["--shapes", *shapes, "--cached", "20", "--repeats", "1", "--out", str(tmp_path / "out")]
    command.main([*given, "--page", str(page)])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- recurrent -->\nbfloat16; ")
    assert "old" not in text
    for tree in ("chain of 8", "tree of 8", "chain of 26", "paper's tree of 26"):
        assert text.count(f"| big + 1b | 20 | {tree} |") == 1
    held = json.loads((tmp_path / "out" / "small-1b-20.json").read_text(encoding="utf-8"))
    assert (held["shape"], held["cached"], len(held["costs"]["propose"])) == ("small-1b", 20, 4)
    behind = re.findall(r"^\| [^|]+ \| 20 \|", text, re.MULTILINE)  # a time may be 20, too
    assert len(behind) == 2 + 4
