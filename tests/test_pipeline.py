"""SpecVLM: whole answers, streamed or not, one at a time or several at once, and what they leave behind: nothing."""

from __future__ import annotations

import copy
import threading
import warnings
from dataclasses import dataclass, field
from functools import lru_cache

import jaxtyping
import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import tiny
from specvlm.answering import request
from specvlm.answering.options import Options
from specvlm.answering.recipe import prepare_generation
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.stats import PHASES, Stats
from specvlm.errors import LengthWarning, ModelError, OptionError, VideoError
from specvlm.families.decoder import HFDecoder
from specvlm.pipeline import SpecVLM, load
from specvlm.prompts.prompt import Prompt
from specvlm.pruning import Pruner, PruningContext, Uniform

VIDEO = tiny.video(6)
QUESTION = "what happens?"
SAMPLED = {"do_sample": True, "temperature": 0.8, "seed": 3}


@lru_cache
def pair() -> SpecVLM:
    target = tiny.llava_model(0, dtype=torch.float64)
    vlm = tiny.llava_pair(target, tiny.noised(target, 0.01))
    # transformers itself marks a vision tower when it first runs: whichever test comes first shall not see that.
    vlm.generate(VIDEO, QUESTION, max_new_tokens=2, vision="full")
    return vlm


def fingerprints(vlm: SpecVLM) -> list[dict]:
    assert vlm.draft is not None
    return [tiny.fingerprint(vlm.target.model), tiny.fingerprint(vlm.draft.model)]


def nothing_is_lent() -> bool:
    return "get_interface" not in vars(ALL_ATTENTION_FUNCTIONS)


@pytest.mark.parametrize("sampled", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("video", [VIDEO, None], ids=["video", "text"])
def test_an_answer_is_that_of_stock_generate_with_figures_about_it(video, sampled):
    right = pair().autoregressive(video, QUESTION, max_new_tokens=24, **sampled)
    answer = pair().generate(video, QUESTION, max_new_tokens=24, pruning_ratio=0.5, **sampled)
    alone = pair().without_draft().generate(video, QUESTION, max_new_tokens=24, **sampled)
    assert (answer.token_ids, answer.text, answer.finish_reason) == (right.token_ids, right.text, "length")
    assert (alone.token_ids, alone.text, alone.finish_reason) == (right.token_ids, right.text, "length")
    stats, num_video_tokens = answer.stats, 25 if video is not None else 0
    assert (stats.num_tokens, stats.num_video_tokens) == (24, num_video_tokens)
    assert stats.num_kept == (12 if video is not None else 0) + num_video_tokens % 2
    assert stats.num_prompt_tokens == len(pair().target.prepare([] if video is None else [video], QUESTION).input_ids)
    assert stats.num_accepted > 0
    assert (alone.stats.num_rounds, right.stats.num_rounds, alone.stats.num_drafted) == (23, 23, 0)
    for figures in (answer.stats, alone.stats, right.stats):
        assert figures.phases.keys() <= set(PHASES)
        assert sum(figures.phases.values()) == pytest.approx(figures.total_seconds)
        assert 0 < figures.ttft_seconds < figures.total_seconds
        assert 0 < figures.decode_seconds < figures.total_seconds
    assert "scoring" not in alone.stats.phases


def test_trees_are_planned_unless_one_is_described():
    """A plan's tree has any number of guesses; one that was asked for has its own."""
    vlm = tiny.llava_pair(pair().target.model, tiny.noised(pair().target.model, 0.01))
    vlm.generate(VIDEO, QUESTION, max_new_tokens=1)
    assert not vlm.pair.planners  # nothing is measured for an answer that needs no guess
    fixed = vlm.generate(VIDEO, QUESTION, max_new_tokens=12, tree="chain", depth=2)
    assert not vlm.pair.planners
    assert {len(each.tree) for each in fixed.stats.rounds[:-2]} == {1 + 2}
    planned = vlm.generate(VIDEO, QUESTION, max_new_tokens=12)
    assert len(vlm.pair.planners) == 1
    assert planned.stats.num_drafted > 0
    assert planned.token_ids == fixed.token_ids
    alone = vlm.without_draft()
    assert alone.generate(VIDEO, QUESTION, max_new_tokens=12).token_ids == fixed.token_ids
    assert not alone.pair.planners


def test_a_list_of_questions_gets_a_list_of_answers_about_a_video_that_is_read_once(monkeypatch):
    questions = [QUESTION, "a red ball?", "what is left?"]
    seen = []
    real = type(pair().target).see
    monkeypatch.setattr(type(pair().target), "see", lambda self, *given: seen.append(self) or real(self, *given))
    options = Options(max_new_tokens=12, pruning_ratio=0.5)
    answers = pair().generate(VIDEO, questions, options)
    assert seen.count(pair().target) == 1
    right = [pair().autoregressive(VIDEO, question, options) for question in questions]
    assert [each.token_ids for each in answers] == [each.token_ids for each in right]
    assert len({each.token_ids for each in right}) > 1
    [first, second] = pair().generate(None, tuple(questions[:2]), options, seed=3, temperature=0.8)
    for question, answer in zip(questions, (first, second), strict=False):
        alone = pair().autoregressive(None, question, options, seed=3, do_sample=True, temperature=0.8)
        assert answer.token_ids == alone.token_ids
    assert pair().generate(VIDEO, []) == []


def test_one_question_is_wanted_where_a_list_of_them_would_be_no_answer(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    refused = r"the question must be one text here, not \['what happens\?'\]: `generate` takes a list"
    for ask in (pair().stream, pair().autoregressive, pair().compare):
        with pytest.raises(OptionError, match=refused):
            list(ask(VIDEO, [QUESTION]))
    with pytest.raises(OptionError, match=refused):
        pair().generate(VIDEO, [QUESTION, [QUESTION]])
    with pytest.raises(OptionError, match="the question is empty"):
        pair().generate(VIDEO, [QUESTION, " "])


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({"temperature": 0.7}, {"do_sample": True, "temperature": 0.7}),
        ({"top_k": 5}, {"do_sample": True, "top_k": 5}),
        ({"top_p": 0.8}, {"do_sample": True, "top_p": 0.8}),
        ({"min_p": 0.01}, {"do_sample": True, "min_p": 0.01}),
        ({"temperature": 0.0}, {"do_sample": False}),
        ({"temperature": 0.0, "top_p": 0.9}, {"do_sample": False}),
    ],
    ids=str,
)
@pytest.mark.parametrize("checkpoint_draws", [False, True])
def test_sampling_is_asked_for_as_elsewhere_and_stock_generate_is_asked_the_same(checkpoint_draws, asked, meant):
    """Whatever the checkpoint's own generation config says."""
    model = copy.deepcopy(pair().target.model)
    model.generation_config.do_sample = checkpoint_draws
    model.generation_config.temperature = 1.3 if checkpoint_draws else None
    family, asked = tiny.llava(model), {"max_new_tokens": 16, "seed": 3} | asked
    prompt = family.prepare([VIDEO], QUESTION)
    torch.manual_seed(3)
    inputs = {
        name: value.to(model.dtype) if value.is_floating_point() else value
        for name, value in prompt.model_inputs.items()
    }
    right = model.generate(**inputs, max_new_tokens=16, **meant)[0, prompt.num_tokens :].tolist()
    vlm = SpecVLM(family, pair().draft)
    assert list(vlm.generate(VIDEO, QUESTION, **asked).token_ids) == right
    assert list(vlm.autoregressive(VIDEO, QUESTION, **asked).token_ids) == right


@pytest.mark.parametrize("pruner", ["verifier_guided", "similarity", "frames"])
def test_only_what_a_pruner_needs_is_computed(pruner):
    phases = pair().generate(VIDEO, QUESTION, max_new_tokens=4, pruner=pruner, pruning_ratio=0.5).stats.phases
    assert ("scoring" in phases) == (pruner == "verifier_guided")
    assert "pruning" in phases
    phases = pair().generate(VIDEO, QUESTION, max_new_tokens=4, pruner=pruner, pruning_ratio=0.0).stats.phases
    assert not {"scoring", "pruning"} & phases.keys()


@dataclass(frozen=True)
class Listening(Pruner):
    """A pruner that remembers what it was told."""

    told: list[PruningContext] = field(default_factory=list)
    name = "listening"
    needs_scores = True
    needs_features = True

    def select(self, context: PruningContext) -> torch.Tensor:
        self.told.append(context)
        return Uniform().select(context)


@pytest.mark.parametrize("num_text_tokens", [0, 1, 19], ids=["prompt ends with the video", "one token", "a question"])
def test_a_pruner_is_told_what_the_target_attends_to(num_text_tokens):
    """Scores as stock eager attention has them: the mean over layers, heads and the text behind the video.

    Where no text follows the video, the prompt's last token takes its place.
    """
    family, pruner = pair().target, Listening()
    inputs = dict(family.prepare([VIDEO], QUESTION).model_inputs)
    end = int((inputs["input_ids"][0] == family.model.config.video_token_id).nonzero()[-1]) + 1 + num_text_tokens
    inputs |= {name: inputs[name][:, :end] for name in ("input_ids", "attention_mask")}
    prompt = family.prompt_from_inputs(inputs)
    options, stats = Options(pruner=pruner, pruning_ratio=0.6, max_new_tokens=12), Stats()
    recipe = prepare_generation(family, prompt.input_ids, options)
    sequence = request.begin(pair().pair, prompt, recipe, options, stats)
    tokens = [token for piece in request.run(pair().pair, prompt, options, sequence) for token in piece]

    eager = copy.deepcopy(family.model)
    eager.set_attn_implementation("eager")
    doubled = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad():
        attentions = torch.stack(eager(**doubled, output_attentions=True).attentions)
    first = min(prompt.split, prompt.num_tokens - 1)
    (context,) = pruner.told
    assert context.num_keep == stats.num_kept == 10
    assert context.scores is not None
    expected = attentions[:, 0, :, first:].mean((0, 1, 2))[prompt.video_mask]
    assert torch.allclose(context.scores, expected, rtol=0, atol=1e-7)
    assert context.features is not None
    assert torch.equal(context.features, family.embed(prompt, family.see(prompt)).rows[prompt.video_mask])
    assert torch.equal(context.frame_ids, prompt.frame_ids)
    assert torch.equal(context.place_ids, prompt.place_ids)
    right = family.model.generate(**doubled, max_new_tokens=12, do_sample=False)
    assert tokens == right[0, prompt.num_tokens :].tolist()


@pytest.mark.parametrize("options", [{}, SAMPLED, {"stop": ("no such words",)}], ids=["greedy", "sampled", "stop"])
def test_pieces_of_a_stream_join_to_the_answer(options):
    stream, pieces = pair().stream(VIDEO, QUESTION, max_new_tokens=24, **options), []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as stop:
            answer = stop.value
            break
    assert answer.token_ids == pair().generate(VIDEO, QUESTION, max_new_tokens=24, **options).token_ids
    assert "".join(pieces) == answer.text
    assert len(pieces) > 3
    assert all(pieces)


def test_options_may_be_an_object_and_single_ones_replaced():
    options = Options(max_new_tokens=9, pruning_ratio=0.5)
    assert len(pair().generate(VIDEO, QUESTION, options).token_ids) == 9
    assert len(pair().generate(VIDEO, QUESTION, options, max_new_tokens=4).token_ids) == 4


def test_frames_are_chosen_as_asked():
    frames = tiny.video(12).frames
    assert pair().generate(frames, QUESTION, num_frames=3, max_new_tokens=1).stats.num_video_tokens == 13
    assert pair().generate(frames, QUESTION, max_new_tokens=1).stats.num_video_tokens == 49


# --- what is left behind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {**SAMPLED, "stop": ("x",), "pruner": "verifier_guided"}], ids=str)
def test_answers_leave_the_models_as_they_were_found(options):
    before, state = fingerprints(pair()), torch.get_rng_state()
    pair().generate(VIDEO, QUESTION, max_new_tokens=12, **options)
    pair().autoregressive(VIDEO, QUESTION, max_new_tokens=12, **options)
    assert fingerprints(pair()) == before
    assert nothing_is_lent()
    assert torch.equal(torch.get_rng_state(), state)  # greedy draws nothing, and a seed has dice of its own


@pytest.mark.parametrize("num_pieces", [0, 1, 3])
def test_so_do_streams_that_are_closed_half_way(num_pieces):
    before = fingerprints(pair())
    stream = pair().stream(VIDEO, QUESTION, max_new_tokens=30)
    for _ in range(num_pieces):
        next(stream)
    stream.close()
    assert fingerprints(pair()) == before
    assert nothing_is_lent()


@pytest.mark.part(2)
@pytest.mark.parametrize("role", ["target", "draft"])
@pytest.mark.parametrize("forward", [0, 1, 5])
def test_so_do_errors_in_the_middle_of_an_answer(monkeypatch, role, forward):
    vlm = pair()
    asked = {"max_new_tokens": 20, "plan": "fixed"}  # of a plan nobody knows how many forwards there are
    before, right = fingerprints(vlm), vlm.generate(VIDEO, QUESTION, **asked).token_ids
    decoder, calls, original = getattr(vlm, role).decoder, [], HFDecoder._forward

    def fail_once(self, *args, **ways):
        if self is decoder:
            calls.append(None)
            if len(calls) == forward + 1:
                self.language_model.layers[1].mlp.down_proj(torch.zeros(7))  # torch's own complaint, between two layers
        return original(self, *args, **ways)

    monkeypatch.setattr(HFDecoder, "_forward", fail_once)
    with pytest.raises(RuntimeError):
        vlm.generate(VIDEO, QUESTION, **asked)
    assert fingerprints(vlm) == before
    assert nothing_is_lent()
    assert vlm.generate(VIDEO, QUESTION, **asked).token_ids == right


def test_answers_in_flight_know_nothing_of_each_other():
    """Several threads, one pair, each with another question, length and seed: the same as one after the other."""
    jobs = [
        (tiny.video(3 + i, seed=i), "what " * (i + 1), {"max_new_tokens": 12 + i, "do_sample": i % 2 == 1, "seed": i})
        for i in range(4)
    ]
    expected = [pair().generate(video, question, **options).token_ids for video, question, options in jobs]
    before, found = fingerprints(pair()), [None] * len(jobs)

    def answer(i: int) -> None:
        video, question, options = jobs[i]
        found[i] = pair().generate(video, question, **options).token_ids

    threads = [threading.Thread(target=answer, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
    assert fingerprints(pair()) == before
    assert nothing_is_lent()


def test_interleaved_streams_know_nothing_of_each_other():
    questions = ["what happens?", "and then?"]
    expected = [pair().generate(VIDEO, question, max_new_tokens=20).text for question in questions]
    streams = [pair().stream(VIDEO, question, max_new_tokens=20) for question in questions]
    texts, running = ["", ""], {0, 1}
    while running:
        for i in sorted(running):
            try:
                texts[i] += next(streams[i])
            except StopIteration:
                running.discard(i)
    assert texts == expected


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.part(2)
@pytest.mark.parametrize("tree", ["paper", "dynamic", "chain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_caches_take_the_bytes_that_prompt_answer_and_tree_need(monkeypatch, tree, dtype):
    """L + n + N positions, within 10 %; the draft's L is that of its pruned prompt."""
    caches: list[tuple[HFDecoder, TreeCache]] = []
    original = HFDecoder.new_cache

    def new_cache(self, *sizes):
        caches.append((self, original(self, *sizes)))
        return caches[-1][1]

    target = tiny.llava_model(0, dtype=dtype, layers=3, heads=4, kv_heads=2, hidden=32)
    draft = tiny.llava_model(1, dtype=dtype, layers=1, heads=2, kv_heads=1, hidden=16)
    vlm = tiny.llava_pair(target, draft)
    monkeypatch.setattr(HFDecoder, "new_cache", new_cache)
    n = 60
    answer = vlm.generate(tiny.video(40), QUESTION, tree=tree, max_new_tokens=n, pruning_ratio=0.75)
    assert len(answer.token_ids) == n
    stats, head_dim, N = answer.stats, 8, Options(tree=tree).tree_shape().max_nodes
    num_pruned_tokens = stats.num_prompt_tokens - stats.num_video_tokens + stats.num_kept
    by_role = {"target": (stats.num_prompt_tokens, 3 * 2), "draft": (num_pruned_tokens, 1 * 1)}
    assert stats.num_kept == 40
    for role, (L, heads_of_all_layers) in by_role.items():
        allocated = sum(cache.nbytes for decoder, cache in caches if decoder is getattr(vlm, role).decoder)
        needed = (L + n + N) * 2 * heads_of_all_layers * head_dim * dtype.itemsize
        assert needed * 0.9 < allocated <= needed * 1.1, role


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["", "  ", "\n\t"])
def test_a_question_is_needed(question):
    with pytest.raises(OptionError, match="the question is empty"):
        pair().generate(VIDEO, question)


def test_errors_of_a_stream_come_with_its_first_piece():
    stream = pair().stream("no such file.mp4", QUESTION)
    with pytest.raises(VideoError, match=r"no such file\.mp4"):
        next(stream)


@pytest.mark.parametrize("call", ["generate", "autoregressive", "compare"])
def test_wrong_options_and_videos_are_refused_everywhere(call):
    with pytest.raises(OptionError, match="no option 'max_tokens'"):
        getattr(pair(), call)(VIDEO, QUESTION, max_tokens=4)
    with pytest.raises(VideoError, match="no such file"):
        getattr(pair(), call)("no such file.mp4", QUESTION)


def test_an_answer_that_could_outgrow_a_sliding_window_is_refused_however_little_is_allocated_at_first(monkeypatch):
    """What is allocated at once is bounded, what an answer may grow to is not: the window has to hold all of it."""
    monkeypatch.setattr(request, "MAX_PREALLOCATED_TOKENS", 4)
    model = tiny.llava_model(0, dtype=torch.float64)
    config = model.model.language_model.config
    config.layer_types, config.sliding_window = ["full_attention", "sliding_attention", "sliding_attention"], 80
    config.use_sliding_window = True
    vlm = tiny.llava_pair(model, None)
    num_prompt_tokens = len(vlm.target.prepare([VIDEO], QUESTION).input_ids)
    fits = 80 - num_prompt_tokens - 1
    assert len(vlm.generate(VIDEO, QUESTION, max_new_tokens=fits).token_ids) == fits
    with pytest.raises(ModelError, match=f"sliding window of 80 positions and this answer needs {80 + 1}"):
        vlm.generate(VIDEO, QUESTION, max_new_tokens=fits + 1)


# --- the oracle -----------------------------------------------------------------------------------------------------


def test_the_oracle_is_generate_itself():
    """Written out as a user of transformers would."""
    prompt: Prompt = pair().target.prepare([VIDEO], QUESTION)
    inputs = {
        name: value.double() if value.is_floating_point() else value for name, value in prompt.model_inputs.items()
    }
    output = pair().target.model.generate(**inputs, max_new_tokens=20, do_sample=False)
    assert pair().autoregressive(VIDEO, QUESTION, max_new_tokens=20).token_ids == tuple(output[0, prompt.num_tokens :])


def test_its_seed_is_its_own():
    state = torch.get_rng_state()
    first = pair().autoregressive(VIDEO, QUESTION, max_new_tokens=12, **SAMPLED)
    second = pair().autoregressive(VIDEO, QUESTION, max_new_tokens=12, **{**SAMPLED, "seed": 4})
    assert first.token_ids != second.token_ids
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_it_says_why_it_stopped(limit):
    answer = pair().autoregressive(VIDEO, QUESTION, max_new_tokens=limit)
    assert (len(answer.token_ids), answer.finish_reason) == (limit, "length")


def test_a_stop_string_in_the_last_token_that_is_allowed_is_a_stop_for_both():
    ids = pair().autoregressive(VIDEO, QUESTION, max_new_tokens=30).token_ids
    decode = pair().target.tokenizer.decode
    end = next(i for i in range(3, 30) if (word := decode(ids[i : i + 1])).isascii() and word.strip())
    word = decode(ids[end : end + 1])
    shorter = pair().autoregressive(VIDEO, QUESTION, max_new_tokens=end + 1, stop=(word,))
    ours = pair().generate(VIDEO, QUESTION, max_new_tokens=len(shorter.token_ids), stop=(word,))
    right = pair().autoregressive(VIDEO, QUESTION, max_new_tokens=len(shorter.token_ids), stop=(word,))
    assert ours.token_ids == right.token_ids
    assert ours.finish_reason == right.finish_reason == "stop"


def test_embedded_models_are_loaded_in_the_dtype_in_which_answers_never_differ():
    vlm = load("pocket")
    assert {vlm.target.model.dtype, vlm.draft.model.dtype} == {torch.float32}
    assert load("pocket", dtype="bfloat16").target.model.dtype == torch.bfloat16


def test_once_the_frames_are_chosen_nothing_is_left_to_choose_in_the_other_videos_either():
    vlm = tiny.pair(tiny.model("qwen2_vl"), None)
    film, other = tiny.film(12), tiny.film(16, 1)
    options = Options(fps=1.0, more_videos=(other,), max_new_tokens=8)
    clip, asked = vlm.load_video(film, options), vlm.once_chosen(options)
    assert (asked.fps, asked.num_frames, asked.source_fps) == (None, None, None)
    assert len(asked.more_videos[0].frames) == len(vlm.load_video(other, options).frames) < 16
    once, twice = vlm.prepare(film, QUESTION, options, Stats()), vlm.prepare(clip, QUESTION, asked, Stats())
    assert torch.equal(once.input_ids, twice.input_ids)


def test_a_rate_for_arrays_tells_the_model_when_they_were_taken():
    vlm = tiny.pair(tiny.model("qwen3_vl"), None)
    frames = tiny.film(12).frames
    slow = vlm.prepare(frames, QUESTION, Options(source_fps=0.5), Stats())
    timed = vlm.prepare(tiny.film(12, fps=0.5), QUESTION, Options(), Stats())
    assert torch.equal(slow.input_ids, timed.input_ids)
    assert not torch.equal(slow.input_ids, vlm.prepare(frames, QUESTION, Options(), Stats()).input_ids)
    with pytest.raises(OptionError, match="its own times"):
        vlm.prepare(tiny.film(12), QUESTION, Options(source_fps=0.5), Stats())


@pytest.mark.parametrize("family", tiny.BUILDERS)
@pytest.mark.parametrize("system", [None, "", " ", "Be brief."])
def test_an_empty_system_prompt_is_one(family, system):
    """What a chat template makes of an empty one is not what it puts where there is none."""
    vlm = tiny.pair(tiny.model(family, 0, layers=1), None)
    question = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what?"}]}]
    given = [] if system is None else [{"role": "system", "content": [{"type": "text", "text": system}]}]
    right = vlm.target.processor.apply_chat_template(given + question, add_generation_prompt=True)
    prompt = vlm.prepare(tiny.film(4, 0), "what?", Options(system=system), Stats())
    assert prompt.text == right
    if system is not None:
        plain = [{"role": "system", "content": system}] if family in tiny.QWEN else given
        assert right == vlm.target.processor.apply_chat_template(plain + question, add_generation_prompt=True)
    reworded = vlm.target.reworded(prompt, "what?", system="" if system is None else None)
    assert reworded is not None
    assert reworded.text != right
    watched = vlm.watch(tiny.film(4, 0), max_new_tokens=4)
    for asked in (system, "", system):
        there = vlm.generate(tiny.film(4, 0), "what?", system=asked, max_new_tokens=4)
        assert watched.ask("what?", system=asked).token_ids == there.token_ids


@pytest.mark.parametrize(
    "given",
    [
        {"max_new_tokens": 0},
        {"seed": 0, "do_sample": True},
        {"top_k": 0, "do_sample": True, "seed": 1},
        {"min_p": 0.0, "do_sample": True, "seed": 1},
        {"pruning_ratio": 0.0},
        {"history": (("", ""),)},
        {"system": ""},
    ],
    ids=str,
)
def test_an_option_that_is_zero_or_empty_was_given(given):
    target = tiny.llava_model(0, layers=2)
    vlm = tiny.pair(target, tiny.noised(target, 0.01))
    asked = {"max_new_tokens": 6} | given
    answer = vlm.generate(tiny.film(4, 0), "what?", **asked)
    assert answer.token_ids == vlm.autoregressive(tiny.film(4, 0), "what?", **asked).token_ids
    assert len(answer.token_ids) <= asked["max_new_tokens"]
    assert answer.stats.num_kept == answer.stats.num_video_tokens or "pruning_ratio" not in given
    assert vlm.watch(tiny.film(4, 0), **asked).ask("what?").token_ids == answer.token_ids


def made_for(positions: int, **rope) -> SpecVLM:
    """The pair again, with a target that was made for so many positions."""
    target = tiny.llava_model(0, layers=1)
    config = target.config.text_config
    config.max_position_embeddings = positions
    config.rope_parameters = {**config.rope_parameters, **rope}
    return tiny.llava_pair(target, tiny.noised(target, 0.01))


def test_a_prompt_longer_than_the_models_positions_is_told_of_once_and_answered_as_by_stock():
    length = pair().generate(VIDEO, QUESTION, max_new_tokens=1).stats.num_prompt_tokens
    vlm = made_for(length - 1)
    with pytest.warns(LengthWarning, match=f"the prompt takes {length} positions, and .* was made for {length - 1}: "):
        answer = vlm.generate(VIDEO, QUESTION, max_new_tokens=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vlm.autoregressive(VIDEO, QUESTION, max_new_tokens=12).token_ids == answer.token_ids
        vlm.generate(VIDEO, QUESTION, max_new_tokens=2)
    with pytest.warns(LengthWarning, match="positions"):
        made_for(length - 1).autoregressive(VIDEO, QUESTION, max_new_tokens=2)
    with pytest.warns(LengthWarning, match="positions"):
        made_for(length - 1).watch(VIDEO, max_new_tokens=2).ask(QUESTION)


@pytest.mark.parametrize(
    ("positions", "rope"),
    [
        (0, {}),
        (-20, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 20}),
        (-20, {"rope_type": "linear", "factor": 4.0}),
    ],
)
def test_a_prompt_that_fits_or_whose_frequencies_are_stretched_is_not_told_of(positions, rope):
    length = pair().generate(VIDEO, QUESTION, max_new_tokens=1).stats.num_prompt_tokens
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made_for(length + positions, **rope).generate(VIDEO, QUESTION, max_new_tokens=2)
