"""evaluate_sample: one question, answered in several arms. A record is all that is ever known of an answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, final

from specvlm.answering.options import Options
from specvlm.comparing.arms import find
from specvlm.comparing.compare import WARM_UP_TOKENS
from specvlm.comparing.record import first_divergence, record
from specvlm.comparing.telling import told
from specvlm.engine.stats import Stats, reset_peak_memory
from specvlm.errors import VideoError
from specvlm.evals.sample import Sample
from specvlm.evals.settings import Setting
from specvlm.evals.spans import footage

if TYPE_CHECKING:
    from specvlm.answering.answer import Generation
    from specvlm.pipeline import SpecVLM

Record = dict[str, Any]
"""One answer, or why there is none, ready for `json.dumps`. Its keys: docs/evals.md."""


@final
@dataclass(frozen=True)
class Job:
    """What is left to do of one sample in one setting. `oracle` is what stock generate said, where that is known."""

    sample: Sample
    setting: Setting
    arms: tuple[str, ...]
    oracle: Record | None = None


def evaluate_sample(
    vlm: SpecVLM, sample: Sample, arms: Sequence[str], options: Options, oracle: Record | None = None
) -> Iterator[Record]:
    """The records of a sample, one an arm, each as soon as it is made.

    Exactness and speedups are against the arm `ar`: the first of `arms`, or `oracle` if it was run before. What goes
    wrong is recorded, and nothing is raised: a video that can't be read ends the sample (a record of no arm), anything
    else its arm alone.
    """
    for arm in arms:
        try:
            reset_peak_memory(vlm.pair.devices)
            generation = _answer(vlm, arm, sample, options)
            made = _about(sample) | _answered(arm, generation)
        except VideoError as error:
            yield _about(sample) | _error(None, error)
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, hours of other samples shall not be lost to it
            yield _about(sample) | _error(arm, error)
            continue
        dtype = str(vlm.target.model.dtype).removeprefix("torch.")
        made |= {"dtype": dtype}
        if arm == "ar":
            oracle = made
        yield made | measured_against(made, oracle, vlm.feature_cache is None)


@final
class Worker:
    """A pair of models that does jobs. The first one warms it up: what is measured has been run before, briefly."""

    def __init__(self, vlm: SpecVLM) -> None:
        self._vlm, self._warm = vlm, False

    def __call__(self, job: Job) -> Iterator[Record]:
        """Errors: OptionError for an arm that these models can't run."""
        job.setting.require(self._vlm)
        if not self._warm:
            self._warm = True
            asked = job.setting.options
            options = replace(asked, max_new_tokens=asked.at_most(WARM_UP_TOKENS))
            list(evaluate_sample(self._vlm, job.sample, job.setting.arms, options))
        for made in evaluate_sample(self._vlm, job.sample, job.arms, job.setting.options, job.oracle):
            yield {"setting": job.setting.name} | made


def failed(job: Job, arm: str | None, problem: str) -> Record:
    """The record of a sample that can't be asked."""
    return {"setting": job.setting.name} | _about(job.sample) | {"arm": arm, "error": problem, "time": time.time()}


def measured_against(made: Record, oracle: Record | None, from_the_file: bool = True) -> Record:
    """Exactness and speedups of an answer; None each where there is nothing to compare with. End to end there isn't
    if it wasn't seen `from_the_file`: stock generate has no cache to take features from."""
    if oracle is None:
        return dict.fromkeys(("identical", "first_divergence", "decode_speedup", "end_to_end_speedup"))
    divergence = first_divergence(made["token_ids"], oracle["token_ids"])

    def speedup(name: str) -> float:
        return oracle[name] / made[name] if made[name] > 0 else 1.0

    return {
        "identical": divergence is None,
        "first_divergence": divergence,
        "decode_speedup": speedup("decode_seconds"),
        "end_to_end_speedup": speedup("total_seconds") if from_the_file else None,
    }


def _answer(vlm: SpecVLM, arm: str, sample: Sample, options: Options) -> Generation:
    if options.system is None:
        options = replace(options, system=sample.system)
    video, options, seconds = footage(vlm, sample, options)
    generation = find(arm).run(vlm, video, sample.question, options)
    if seconds:
        generation.stats.charge("decode_video", seconds)
    return generation


def _about(sample: Sample) -> Record:
    return {
        "sample": sample.sample_id,
        "video": sample.video,
        "question": sample.question,
        "choices": list(sample.choices),
        "answer": sample.answer,
        "group": sample.group,
    }


def _error(arm: str | None, error: Exception) -> Record:
    return {"arm": arm, "error": told(error), "time": time.time()}


def _answered(arm: str, generation: Generation) -> Record:
    stats = generation.stats
    measured = asdict(record(arm, [generation]))
    for name in (
        "spread",
        "warm_up_seconds",
        "compile_seconds",
    ):  # a single run that nothing was warmed up for has none
        del measured[name]
    return measured | {
        "text": generation.text,
        "token_ids": list(generation.token_ids),
        "finish_reason": generation.finish_reason,
        "num_prompt_tokens": stats.num_prompt_tokens,
        "num_rounds": stats.num_rounds,
        "num_drafted": stats.num_drafted,
        "num_accepted": stats.num_accepted,
        "num_draft_forwards": stats.num_draft_forwards,
        "accepted_per_depth": list(stats.accepted_per_depth),
        "emitted_per_round": emitted_per_round(stats),
        "error": None,
        "time": time.time(),
    }


def emitted_per_round(stats: Stats) -> list[int]:
    """Tokens that each target forward after the prefill brought, bonus included; of the last, the wanted ones.

    Empty where nobody knows: of stock generate's own speculation the forwards were counted, and no more.
    """
    if not stats.rounds:
        return [1] * stats.num_rounds if stats.num_rounds == stats.num_tokens - 1 else []
    emitted = [each.num_accepted + 1 for each in stats.rounds]
    emitted[-1] -= sum(emitted) - (stats.num_tokens - 1)
    return emitted
