"""Options: right values are taken, wrong ones named with what would be right, and each reaches what it is for."""

from __future__ import annotations

import dataclasses
import re

import jaxtyping
import pytest

from specvlm.answering.options import Options
from specvlm.engine.tree import PAPER_TREE, DynamicTree, TreeTemplate, chain
from specvlm.errors import OptionError
from specvlm.pruning import Frames, Uniform, VerifierGuided


@pytest.fixture
def unchecked_annotations(monkeypatch):
    """The library as its users run it: what has the wrong type gets as far as the library's own errors."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


WRONG = {
    "num_frames": [0, -1, 1.5, True, "8"],
    "fps": [0, -1.0, float("nan"), float("inf"), "1", True],
    "source_fps": [0, -1.0, float("nan"), float("inf"), "1", True],
    "video_backend": ["ffmpeg", "", 1],
    "pruning_ratio": [-0.1, 1.5, float("nan"), "0.5", True],
    "positions": ["closed", "", 1],
    "plan": ["best", "", True],
    "pruner": ["nothing", "", "uniform(stride=3)", "uniform(", 5],
    "tree": ["bush", [], [()], [(1, 0)], [(-1,)], [(0.5,)], [("0",)], [0], 7, [[[0]]]],
    "depth": [0, -2, 2.0],
    "num_nodes": [0, "5"],
    "width": [0, 1.5],
    "max_new_tokens": [-1, 1.5, True],
    "temperature": [-1.0, float("inf"), "hot"],
    "top_k": [-1, 0.5],
    "top_p": [0, 1.1, -0.1],
    "min_p": [-0.1, 1.1],
    "repetition_penalty": [0, -1.5],
    "stop": ["red", ("",), (5,), 5],
    "seed": [-1, 2**63, 1.0, "7"],
    "prefill_chunk": [0, 0.5],
    "do_sample": ["yes", 1],
    "system": [5],
    "history": ["what?", (("what?",),), (("what?", 5),), 5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_by_name(unchecked_annotations, name, value):
    with pytest.raises(OptionError, match=name) as caught:
        Options(**{name: value})
    assert "\n" not in str(caught.value)


RIGHT = {
    "num_frames": [1, 32],
    "fps": [0.5, 2],
    "source_fps": [0.5, 24],
    "video_backend": ["auto", "pyav", "straight", "torchcodec"],
    "pruning_ratio": [0, 1, 0.9],
    "positions": ["compact", "original"],
    "depth": [1, 9],
    "max_new_tokens": [0, 1],
    "top_k": [0, 1],
    "top_p": [1, 1.0, 0.1],
    "min_p": [0, 1],
    "temperature": [0, 0.0, 0.01, 3],
    "seed": [0, 2**63 - 1],
    "stop": [(), ("red",)],
    "do_sample": [True, False],
    "system": ["be brief", ""],
    "history": [(), (("what?", "a ball"),)],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_what_is_in_range_is_taken(unchecked_annotations, name, value):
    assert getattr(Options(**{name: value}), name) == value


def test_frames_are_asked_for_in_one_way():
    with pytest.raises(OptionError, match="num_frames or fps, not both"):
        Options(num_frames=4, fps=1.0)


def test_some_options_replace_others_and_unknown_ones_are_refused():
    base = Options(max_new_tokens=5, tree="paper")
    assert Options.of(base, {}) == base
    assert Options.of(base, {"max_new_tokens": 7}) == Options(max_new_tokens=7, tree="paper")
    assert Options.of(None, {"seed": 3}) == Options(seed=3)
    assert base.max_new_tokens == 5
    with pytest.raises(OptionError, match=r"no option 'max_tokens'; there are .*max_new_tokens"):
        Options.of(base, {"max_tokens": 7})
    with pytest.raises(OptionError, match="pruning_ratio"):
        Options.of(base, {"pruning_ratio": 2.0})


def test_options_are_never_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().seed = 5  # type: ignore[misc]


PATHS = [(0,), (1,), (0, 0), (0, 0, 2)]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, DynamicTree()),
        ({"depth": 2, "num_nodes": 7, "width": 3}, DynamicTree(depth=2, num_nodes=7, width=3)),
        ({"tree": "paper"}, PAPER_TREE),
        ({"tree": "paper", "depth": 2}, PAPER_TREE.cut(2)),
        ({"tree": "paper", "depth": 9}, PAPER_TREE),
        ({"tree": "chain"}, chain(5)),
        ({"tree": "chain", "depth": 3}, chain(3)),
        ({"tree": "chain", "depth": 8}, chain(8)),
        ({"tree": PATHS}, TreeTemplate.from_paths(PATHS)),
        ({"tree": [list(path) for path in PATHS]}, TreeTemplate.from_paths(PATHS)),
        ({"tree": PATHS, "depth": 1}, TreeTemplate.from_paths([(0,), (1,)])),
        ({"tree": chain(4)}, chain(4)),
        ({"tree": chain(4), "depth": 2}, chain(2)),
        ({"tree": DynamicTree(depth=6, width=2)}, DynamicTree(depth=6, width=2)),
        ({"tree": DynamicTree(depth=6, width=2), "depth": 3}, DynamicTree(depth=3, width=2)),
        ({"tree": DynamicTree(depth=2), "depth": 3}, DynamicTree(depth=2)),
    ],
    ids=str,
)
def test_a_tree_has_the_shape_that_the_options_describe_together(options, shape):
    assert Options(**options).tree_shape() == shape


@pytest.mark.parametrize("tree", ["paper", "chain", PATHS, chain(3), DynamicTree()], ids=str)
@pytest.mark.parametrize("name", ["num_nodes", "width"])
def test_what_belongs_to_the_dynamic_tree_is_refused_for_others(tree, name):
    with pytest.raises(OptionError, match=f"{name} belongs to the dynamic tree"):
        Options(tree=tree, **{name: 3})


OF_A_TREE = {"tree": ["dynamic", "paper", PATHS, chain(3)], "depth": [6], "num_nodes": [12], "width": [2]}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OF_A_TREE.items() for value in values])
def test_trees_are_planned_unless_one_is_described(name, value):
    """Even if what is described is what a fixed tree has by default."""
    assert Options().planned
    assert Options(plan="auto").planned
    assert not Options(plan="fixed").planned
    fixed = Options(**{name: value})
    assert not fixed.planned
    assert not dataclasses.replace(fixed, pruning_ratio=0.5).planned
    with pytest.raises(OptionError, match=f"plan='auto' chooses the tree by itself: leave {name} out"):
        Options(plan="auto", **{name: value})
    with pytest.raises(OptionError, match=f"leave {name} out"):
        Options.of(Options(plan="auto"), {name: value})


def test_a_ratio_leaves_the_trees_to_the_plan():
    assert Options(pruning_ratio=0.5).planned


DRAWN = [
    {"temperature": 0.7},
    {"top_k": 0},
    {"top_k": 5},
    {"top_p": 0.9},
    {"min_p": 0.1},
    {"temperature": 1.0, "top_p": 1.0},
]


@pytest.mark.parametrize("given", DRAWN, ids=str)
def test_who_says_how_to_draw_wants_draws(given):
    assert Options(**given).draws
    assert Options(**given).generate_kwargs() == {"do_sample": True} | given
    greedy = Options(do_sample=False, **given)
    assert not greedy.draws
    assert greedy.generate_kwargs() == {"do_sample": False} | given


@pytest.mark.parametrize("more", [{}, {"do_sample": False}, {"top_p": 0.9, "top_k": 5, "min_p": 0.1}], ids=str)
@pytest.mark.parametrize("zero", [0, 0.0])
def test_temperature_0_is_greedy(unchecked_annotations, zero, more):
    asked = Options(temperature=zero, repetition_penalty=1.2, **more)
    assert asked.draws is False
    assert asked.generate_kwargs() == {"do_sample": False, "repetition_penalty": 1.2}


def test_temperature_0_and_draws_contradict_each_other():
    with pytest.raises(OptionError, match="temperature=0 always takes the likeliest token, and do_sample=True draws"):
        Options(temperature=0.0, do_sample=True)


def test_who_says_nothing_of_draws_leaves_them_to_the_checkpoint():
    assert Options(seed=3, repetition_penalty=1.1).draws is None
    assert Options(do_sample=True).draws is True


def test_a_pruner_may_be_named_described_or_given():
    assert Options(pruner="frames").make_pruner() == Frames()
    assert Options(pruner="verifier_guided(top_p=0.2)").make_pruner() == VerifierGuided(top_p=0.2)
    assert Options(pruner=Uniform()).make_pruner() == Uniform()


def test_generate_is_asked_only_what_was_asked():
    """What is left open, the checkpoint's generation config decides."""
    assert Options().generate_kwargs() == {}
    asked = Options(
        max_new_tokens=7,
        do_sample=True,
        temperature=0.5,
        top_k=0,
        top_p=0.9,
        min_p=0.1,
        repetition_penalty=1.1,
        stop=("red",),
        seed=3,
        tree="paper",
    )
    assert asked.generate_kwargs() == {
        "max_new_tokens": 7,
        "do_sample": True,
        "temperature": 0.5,
        "top_k": 0,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "stop_strings": ["red"],
    }


def test_what_does_nothing_is_named():
    assert Options(do_sample=False, temperature=0.5, top_k=3).idle(drafts=True) == [
        "temperature, top_k: nothing is drawn with do_sample=False, which takes the likeliest token"
    ]
    guesses = Options(pruner="uniform", pruning_ratio=0.5, tree="chain", self_scope="head")
    assert guesses.idle(drafts=False) == ["pruner, pruning_ratio, self_scope, tree: nothing is guessed without a draft"]
    assert guesses.without_guesses() == Options()
    for idle in (Options(), Options(temperature=0.0, top_p=0.9), Options(do_sample=True, top_p=0.9), guesses):
        assert idle.idle(drafts=True) == []


def test_what_is_wrong_with_an_empty_value_is_told(unchecked_annotations):
    for given, complaint in (
        ({"stop": ""}, "such as ('.',), not the string ''"),
        ({"stop": ("",)}, "a tuple of strings, none empty, not ('',)"),
        ({"temperature": -0.5}, "temperature must be a number of 0 or more, not -0.5"),
    ):
        with pytest.raises(OptionError, match=re.escape(complaint)):
            Options(**given)
