"""Arms: every way to answer gives stock generate's answer, and the peers' ways leave everything as it was."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

import tiny
from specvlm.answering import oracle
from specvlm.answering.options import Options
from specvlm.comparing.arms import WAYS, find, planned
from specvlm.comparing.compare import compare
from specvlm.engine.tree import DynamicTree
from specvlm.errors import OptionError
from specvlm.families.releases import ASSISTS_WITH_STATIC
from specvlm.pipeline import SpecVLM

QUESTION = "what happens?"
FAMILIES = ("llava_onevision", "qwen2_5_vl")
PEERS = ("assisted", "prompt_lookup")
NOT_IN_THIS_RELEASE = set() if ASSISTS_WITH_STATIC else {"assisted-static"}


@pytest.fixture(autouse=True)
def _costs_of_their_own(tmp_path, monkeypatch):
    """What forwards cost is kept on disk: not on the developer's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_trees_are_fixed_beside_the_arm_that_plans_them_unless_a_plan_is_asked_for():
    def planned_arms(options: Options) -> set[str]:
        return {name for name, way in WAYS.items() if way.needs_draft and way.asked(options).planned}

    assert planned_arms(Options()) == planned_arms(Options(tree="paper")) == {"auto"}
    assert planned_arms(Options(plan="fixed")) == {"auto"}
    assert planned_arms(Options(plan="auto")) >= {"auto", "sd", "specvlm", "strict"}
    assert find("specvlm").asked(Options()).tree_shape() == DynamicTree()
    assert find("auto").asked(Options(tree="chain", depth=3, pruning_ratio=0.5)) == Options(
        plan="auto", pruning_ratio=0.5
    )


def test_who_measures_knows_whether_an_arm_needs_it():
    assert planned(("ar", "loop", "sd", "specvlm", "assisted"), Options()) is None
    assert planned(("ar", "auto@0.5"), Options()) == Options(plan="auto", pruning_ratio=0.5)
    assert planned(("specvlm",), Options(plan="auto")) == Options(plan="auto")


@lru_cache
def pair(family: str, words_more: int = 0) -> SpecVLM:
    """A draft that is often right, whose table may have more rows, as those of published pairs have."""
    target = tiny.model(family, layers=2)
    draft = tiny.noised(target, 0.01)
    if words_more:
        draft.resize_token_embeddings(draft.config.get_text_config().vocab_size + words_more)
    return tiny.pair(target, draft)


def answer(vlm: SpecVLM, arm: str, options: Options | None = None):
    return find(arm).run(vlm, tiny.video(5), QUESTION, options or Options(max_new_tokens=24, pruning_ratio=0.5))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_way_gives_the_answer_of_stock_generate(family):
    # In the tiny LLaVA's prompt transformers looks up video tokens, and then misses their pixels.
    left_out = NOT_IN_THIS_RELEASE | ({"prompt_lookup"} if family == "llava_onevision" else set())
    names = (*(way for way in WAYS if way not in left_out), "specvlm@0", "chain@0.8", "auto@0.5")
    found = compare(pair(family), tiny.video(5), QUESTION, Options(max_new_tokens=24, pruning_ratio=0.5), arms=names)
    assert [arm.arm for arm in found.arms] == list(dict.fromkeys(("ar", *names)))
    assert all(arm.identical and arm.tokens == 24 for arm in found.arms)
    assert found.refused == {}
    by_name = {arm.arm: arm for arm in found.arms}
    whole = by_name["ar"].num_video_tokens
    kept = {name: by_name[name].num_kept for name in ("sd", "specvlm", "specvlm@0", "chain@0.8")}
    half = (whole + 1) // 2
    assert kept == {"sd": whole, "specvlm": half, "specvlm@0": whole, "chain@0.8": round(whole / 5)}
    # Guesses were really made and accepted, or nothing would have been shown.
    guessing = {"assisted", "assisted-static", "sd", "specvlm", "chain", "paper", "dynamic", "strict"}
    for name in guessing - left_out:
        assert by_name[name].mean_acceptance_length > 1, name


def test_trees_are_what_their_arms_are_called():
    rounds = {arm: answer(pair("llava_onevision"), arm).stats.rounds[0].tree for arm in ("chain", "paper", "dynamic")}
    assert rounds["chain"].parents == (-1, 0, 1, 2, 3, 4)
    assert len(rounds["paper"]) == 26
    assert len(rounds["dynamic"]) == 13


def test_what_was_asked_for_does_not_stand_against_an_arm():
    """Nodes and width belong to the dynamic tree; depth to all but the planned one."""
    asked = Options(max_new_tokens=8, num_nodes=9, width=3, depth=2)
    assert len(answer(pair("llava_onevision"), "chain", asked).stats.rounds[0].tree) == 3
    for arm in ("paper", "dynamic", "auto"):
        assert answer(pair("llava_onevision"), arm, asked).stats.rounds


@pytest.mark.parametrize(
    ("family", "arm"),
    [*((family, arm) for family in FAMILIES for arm in ("ar", "assisted")), ("qwen2_5_vl", "prompt_lookup")],
)
def test_target_forwards_of_stock_generate_are_counted_rightly(family, arm):
    vlm, forwards = pair(family), []
    hook = vlm.target.model.model.language_model.register_forward_pre_hook(lambda *_: forwards.append(1))
    try:
        found = answer(vlm, arm)
    finally:
        hook.remove()
    assert found.stats.num_rounds == len(forwards) - 1
    assert found.stats.mean_acceptance_length == pytest.approx((24 - 1) / (len(forwards) - 1))
    if arm != "prompt_lookup":  # which may find nothing
        assert (found.stats.mean_acceptance_length == 1) == (arm == "ar")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_assistant_of_transformers_never_receives_the_video(family):
    """What the arm's summary says of it, asserted: this is its handicap, and none that we gave it."""
    vlm, received = pair(family), []
    assert not isinstance(vlm.draft, str)
    model: Any = vlm.draft.model.model
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: received.append({name for name, value in kwargs.items() if value is not None}),
        with_kwargs=True,
    )
    try:
        answer(vlm, "assisted")
    finally:
        hook.remove()
    assert received
    assert not any("pixel" in name or "mm_encoder" in name for names in received for name in names)


def test_the_draft_is_left_as_it_was_found():
    """Under the heuristic schedule transformers notes how many tokens to guess on the assistant itself."""
    vlm = pair("llava_onevision")
    assert not isinstance(vlm.draft, str)
    model: Any = vlm.draft.model
    model.generation_config.num_assistant_tokens_schedule = "heuristic"
    model.generation_config.num_assistant_tokens = 3
    try:
        config, before = model.generation_config, model.generation_config.to_dict()
        answer(vlm, "assisted")
        assert model.generation_config is config
        assert config.to_dict() == before
    finally:
        model.generation_config.num_assistant_tokens_schedule = None
        model.generation_config.num_assistant_tokens = None


def test_vocabularies_of_two_sizes_need_a_second_tokenizer():
    """As in LLaVA-OneVision 7B + 0.5B: tables of 152,128 and 152,000 rows."""
    found = compare(
        pair("llava_onevision", 8), tiny.video(5), QUESTION, Options(max_new_tokens=12), arms=("assisted", "specvlm")
    )
    if "assisted" in found.refused:
        pytest.fail(found.refused["assisted"])
    assert all(arm.identical for arm in found.arms)


def test_why_a_peer_cannot_run_is_a_result():
    vlm = pair("llava_onevision")
    itself = tiny.pair(vlm.target.model, "self")
    found = compare(itself, tiny.video(5), QUESTION, Options(max_new_tokens=4), arms=("assisted", "specvlm"))
    assert [arm.arm for arm in found.arms] == ["ar", "specvlm"]
    assert "another model" in found.refused["assisted"]
    assert found.to_json()["refused"] == found.refused


@pytest.mark.parametrize("arm", PEERS)
def test_sampled_answers_of_peers_are_refused(arm):
    """They draw other random numbers, and would look as if they were wrong."""
    found = compare(
        pair("llava_onevision"), tiny.video(5), QUESTION, Options(do_sample=True, max_new_tokens=4), arms=(arm,)
    )
    assert "greedy" in found.refused[arm]


def test_a_peer_that_fails_late_is_left_out_and_an_arm_of_ours_is_not(monkeypatch):
    calls, stock = [], oracle.generate_stock

    def failing(*_, **aids):
        calls.append(1)
        raise RuntimeError("out of\n patience")

    def failing_with_aids(*arguments, on_tokens=None, **aids):
        return failing() if aids else stock(*arguments)

    monkeypatch.setattr(oracle, "generate_stock", failing_with_aids)
    found = compare(
        pair("llava_onevision"), tiny.video(5), QUESTION, Options(max_new_tokens=4), arms=("prompt_lookup",)
    )
    assert found.refused == {"prompt_lookup": "RuntimeError: out of patience"}
    assert len(calls) == 1
    monkeypatch.setattr("specvlm.answering.request.begin", failing)
    with pytest.raises(RuntimeError, match="patience"):
        compare(pair("llava_onevision"), tiny.video(5), QUESTION, Options(max_new_tokens=4), arms=("loop",))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vllm", "no arm 'vllm'; there are ar, ar-no-cudnn"),
        ("ar@0.5", "the arm ar takes no pruning ratio"),
        ("sd@0.5", "the arm sd takes no pruning ratio"),
        ("assisted@0.5", "the arm assisted takes no pruning ratio"),
        ("specvlm@", "such as 0.9, not ''"),
        ("specvlm@much", "such as 0.9, not 'much'"),
    ],
)
def test_names_that_are_none(name, message):
    with pytest.raises(OptionError, match=message):
        find(name)


def test_a_ratio_out_of_range_is_refused():
    with pytest.raises(OptionError, match=r"pruning_ratio must be a number from 0 to 1, not 1\.5"):
        answer(pair("llava_onevision"), "specvlm@1.5")


def test_every_way_says_what_it_is():
    assert all(way.summary.endswith(".") for way in WAYS.values())
