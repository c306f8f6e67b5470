"""Sampling: the law of what is emitted is the target's own law, with one draw per emitted token."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine.trees import Path, all_trees, emitted, words
from specvlm.engine.sampling import Chooser
from specvlm.engine.tree import DraftTree
from specvlm.engine.verification import verify

HISTORY = torch.tensor([2, 0, 1])


def history() -> torch.Tensor:
    return HISTORY


def language(vocabulary: int, scale: float = 1.5):
    """The target's logits after some words."""

    def logits_after(path: Path) -> torch.Tensor:
        generator = torch.Generator().manual_seed(sum((token + 1) * 7**i for i, token in enumerate(path)))
        return scale * torch.randn(vocabulary, generator=generator, dtype=torch.float64)

    return logits_after


def tree_logits(tree: DraftTree, logits_after) -> torch.Tensor:
    return torch.stack([logits_after(words(tree, node)) for node in range(len(tree))])


class PlainDecoding:
    """One token after another, with all probabilities known."""

    def __init__(self, chooser: Chooser, logits_after) -> None:
        self._chooser, self._logits_after = chooser, logits_after
        self._known: dict[Path, list[float]] = {}

    def next_token(self, path: Path) -> list[float]:
        """The probability of each token after `path`."""
        if path not in self._known:
            scores = self._logits_after(path).float()[None]
            if self._chooser.processors is not None:
                scores = self._chooser.processors(torch.cat([HISTORY, HISTORY.new_tensor(path)])[None], scores)
            self._known[path] = scores.softmax(-1)[0].double().tolist()
        return self._known[path]

    def weight(self, path: Path) -> float:
        return math.prod(self.next_token(path[:i])[token] for i, token in enumerate(path))

    def continued(self, law: dict[Path, float], length: int) -> dict[Path, float]:
        """The law of answers of `length` tokens that begin as `law` says."""
        while any(len(path) < length for path in law):
            longer: Counter[Path] = Counter()
            for path, weight in law.items():
                if len(path) == length:
                    longer[path] += weight
                    continue
                for token, p in enumerate(self.next_token(path)):
                    longer[(*path, token)] += weight * p
            law = longer
        return law


class Dice:
    """Stands in for torch.multinomial: plays every possible game once, and weighs it."""

    def __init__(self) -> None:
        self.script: list[int] = []

    def play(self, game):
        """Yield (result, weight, number of draws) of each way that the dice may fall."""
        self.script = []
        while True:
            self.rolled, self.sizes, self.weight = 0, [], 1.0
            result = game()
            yield result, self.weight, self.rolled
            script = self.script[: self.rolled]
            while script and script[-1] == self.sizes[len(script) - 1] - 1:
                script.pop()
            if not script:
                return
            script[-1] += 1
            self.script = script

    def multinomial(self, weights: torch.Tensor, num_samples: int, *, generator=None) -> torch.Tensor:
        assert weights.shape[0] == num_samples == 1
        if self.rolled == len(self.script):
            self.script.append(0)
        face = self.script[self.rolled]
        self.rolled += 1
        self.sizes.append(weights.shape[1])
        self.weight *= float(weights[0, face].double())
        return torch.tensor([[face]])


CHOOSERS = {
    "plain": Chooser(None, do_sample=True),
    "warped": Chooser(
        LogitsProcessorList([TemperatureLogitsWarper(0.7), TopKLogitsWarper(3), TopPLogitsWarper(0.95)]),
        do_sample=True,
    ),
    "with a look at history": Chooser(
        LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.7), MinPLogitsWarper(0.05)]), do_sample=True
    ),
}


@pytest.mark.parametrize("vocabulary", [3, 4])
@pytest.mark.parametrize("name", CHOOSERS)
def test_a_round_and_plain_decoding_have_the_same_law(monkeypatch, name, vocabulary):
    """Enumerated in float64: a round of speculation, finished by plain decoding, against plain decoding alone.

    Every 15th tree of up to 5 nodes; the law is over all answers one token longer than the tree is deep.
    """
    chooser, logits_after, dice = CHOOSERS[name], language(vocabulary), Dice()
    monkeypatch.setattr(torch, "multinomial", dice.multinomial)
    plain = PlainDecoding(chooser, logits_after)
    for tree in [*all_trees(4, vocabulary), *all_trees(5, 2)][::15]:
        choose, length = chooser.over(tree_logits(tree, logits_after), history), max(tree.depths) + 1
        law: Counter[Path] = Counter()
        for verdict, weight, num_draws in dice.play(partial(verify, tree, choose)):
            said = emitted(tree, verdict)
            assert num_draws == len(said)
            law[said] += weight
        expected = plain.continued({(): 1.0}, length)
        assert plain.continued(law, length) == pytest.approx(expected, abs=1e-12)


def test_the_frequencies_of_real_draws_follow_the_law():
    """Chi-square over 4 000 rounds; a right sampler fails once in a million seeds, and the seed is fixed."""
    tree = DraftTree((9, 0, 1, 0, 2), (-1, 0, 0, 1, 1))
    logits_after, chooser = language(3), Chooser(None, do_sample=True, generator=torch.Generator().manual_seed(0))
    choose, rounds = chooser.over(tree_logits(tree, logits_after), history), 4_000
    seen = Counter(emitted(tree, verify(tree, choose)) for _ in range(rounds))
    inner = {words(tree, node) for node in range(len(tree))}
    said = {(*path, token) for path in inner for token in range(3)} - inner
    assert set(seen) <= said
    expected = {path: rounds * PlainDecoding(chooser, logits_after).weight(path) for path in said}
    chi_square = sum((seen[path] - count) ** 2 / count for path, count in expected.items())
    assert len(said) - 1 == 10  # the degrees of freedom that the bound belongs to
    assert chi_square < 46.86  # the 1 - 1e-6 quantile at 10 degrees of freedom


def test_one_draw_for_each_emitted_token_and_none_after_a_stop():
    logits_after = language(3)
    for tree in all_trees(4, 3):
        logits = tree_logits(tree, logits_after)
        chooser = Chooser(None, do_sample=True, generator=torch.Generator().manual_seed(len(tree)))
        verdict = verify(tree, chooser.over(logits, history), stop=lambda tokens: tokens[-1] == 1)
        plain = Chooser(None, do_sample=True, generator=torch.Generator().manual_seed(len(tree)))
        said: Path = ()
        for _ in range(verdict.num_accepted + 1):
            said = (*said, plain.choose(logits_after(said), HISTORY[None]))
        assert said == emitted(tree, verdict)
        assert torch.equal(chooser.generator.get_state(), plain.generator.get_state())
        assert 1 not in said[:-1]


def test_greedy_choices_draw_nothing_and_take_the_first_of_equals():
    logits = torch.tensor([[1.0, 3.0, 3.0], [5.0, 5.0, 1.0]])
    before = torch.get_rng_state()
    choose = Chooser().over(logits, history)
    assert [choose(0, ()), choose(1, (1,))] == [1, 0]
    penalised = Chooser(LogitsProcessorList([TemperatureLogitsWarper(0.5)])).over(logits, history)
    assert [penalised(0, ()), penalised(1, (1,))] == [1, 0]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_choices_are_made_in_float32_as_generate_makes_them(dtype):
    """Two logits that only float64 can tell apart are a tie, and the first one wins."""
    near = torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64).to(dtype)
    assert Chooser().over(near, history)(0, ()) == 0
    seen = []
    chooser = Chooser(lambda ids, scores: seen.append(scores.dtype) or scores)
    chooser.over(near, history)(0, ())
    assert seen == [torch.float32]


def test_only_those_who_look_back_ask_for_the_history():
    """It is all of the prompt, put together anew in every round."""

    def unasked() -> torch.Tensor:
        raise AssertionError("nobody looks back")

    logits = torch.tensor([[1.0, 3.0], [5.0, 1.0]])
    for doubt in (0.0, 9.0):
        choose = Chooser(doubt=doubt).over(logits, unasked)
        assert [choose(0, ()), choose(1, (1,))] == [1, 0]
    for chooser in (Chooser(do_sample=True), Chooser(LogitsProcessorList([TemperatureLogitsWarper(0.5)]))):
        with pytest.raises(AssertionError, match="looks back"):
            chooser.over(logits, unasked)


def test_a_processor_sees_prompt_answer_and_the_nodes_own_path():
    tree = DraftTree((9, 4, 5, 6), (-1, 0, 0, 1))
    seen = []
    chooser = Chooser(lambda ids, scores: seen.append(ids.tolist()) or scores)
    logits = torch.zeros(4, 10)
    logits[0, 4], logits[1, 6], logits[3, 7] = 1, 1, 1
    verdict = verify(tree, chooser.over(logits, history))
    assert verdict.path == (0, 1, 3)
    assert seen == [[[2, 0, 1]], [[2, 0, 1, 4]], [[2, 0, 1, 4, 6]]]


def test_the_logits_of_the_tree_are_never_written_to():
    logits = torch.randn(3, 5)
    copy = logits.clone()
    chooser = Chooser(lambda ids, scores: scores.zero_(), do_sample=True)
    choose = chooser.over(logits, history)
    for node in range(3):
        choose(node, ())
    assert torch.equal(logits, copy)
