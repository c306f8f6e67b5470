"""The plugin for lmms-eval: `lmms-eval --model specvlm --model_args target=...,draft=... --tasks ...`.

lmms-eval finds `manifest` by its entry point, and only then is this file imported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, final

import numpy as np
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts  # type: ignore[import-not-found]
from lmms_eval.api.model import lmms  # type: ignore[import-not-found]
from lmms_eval.models.model_utils.gen_metrics import log_metrics  # type: ignore[import-not-found]
from lmms_eval.models.registry_v2 import ModelManifest  # type: ignore[import-not-found]
from PIL import Image
from tqdm import tqdm

from specvlm.answering.options import Options
from specvlm.errors import OptionError

if TYPE_CHECKING:
    from specvlm.answering.answer import Generation

manifest = ModelManifest("specvlm", simple_class_path=f"{__name__}.SpecVLMForLmmsEval")

SAMPLING = ("temperature", "top_k", "top_p", "min_p")
FILLED_IN = "\n\n"
"""What lmms-eval ends an answer at where a task names nothing. Its own models of our families leave it out, too: a
description of a video has paragraphs."""


@final
class SpecVLMForLmmsEval(lmms):
    """A pair of models that answers lmms-eval's requests one by one.

    Model arguments are those of `specvlm.load` and the fields of `specvlm.Options`; what a task says about the length
    of an answer, where it stops and how it is drawn comes first. Errors: OptionError; and those of `specvlm.load`.
    """

    is_simple = True

    def __init__(
        self,
        target: str = "pocket",
        draft: str | None = None,
        dtype: str = "auto",
        device_map: str | None = None,
        attn: str | None = None,
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if str(batch_size) != "1" or max_batch_size not in (None, 1):
            raise OptionError(f"batch_size must be 1, not {batch_size!r}: specvlm answers one question at a time")
        from specvlm.pipeline import load

        self._options = Options.of(None, options)
        self._vlm = load(target, draft, dtype=dtype, device_map=device_map or device, attn=attn)

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """The answers, in the order of the requests, without the strings that they were stopped at."""
        results, answers = [], []
        start = time.perf_counter()
        for request in tqdm(requests, desc="Model Responding", disable=self.rank != 0):
            context, asked, doc_to_visual, doc_id, task, split = request.args
            options = options_for(asked, self._options)
            videos, images = sorted_visuals(doc_to_visual(self.task_dict[task][split][doc_id]))
            answer = self._vlm.generate(
                videos[0] if videos else None,
                context.replace("<image>", "").replace("<video>", ""),  # where a visual stands is the template's affair
                options,
                more_videos=tuple(videos[1:]),
                images=tuple(images),
            )
            text = cut(answer.text, options.stop)
            answers.append(answer)
            tokens = TokenCounts(input_tokens=answer.stats.num_prompt_tokens, output_tokens=len(answer.token_ids))
            results.append(GenerationResult(text, tokens))
            self.cache_hook.add_partial("generate_until", (context, asked), text)
        report(answers, time.perf_counter() - start)
        return results

    def loglikelihood(self, requests: Sequence[Instance]) -> NoReturn:
        """Refused: to score given answers there is nothing to guess. Errors: OptionError."""
        raise OptionError(
            f"task {requests[0].task_name!r} scores given answers (loglikelihood), and specvlm only generates; choose "
            "the variant of the task that generates, or the model's own entry in lmms-eval"
        )

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> NoReturn:
        """Refused. Errors: OptionError."""
        raise OptionError(f"task {requests[0].task_name!r} is a conversation of several rounds; specvlm answers one")


def options_for(asked: Mapping[str, Any], options: Options) -> Options:
    """`options` as a task's `generation_kwargs` want them: greedy, unless a temperature or do_sample asks for dice.

    What is not about generating, such as `image_aspect_ratio`, is left to those whom it concerns. Errors: OptionError.
    """
    if asked.get("num_beams") not in (None, 1):
        raise OptionError(f"num_beams must be 1, not {asked['num_beams']!r}: specvlm has no beam search")
    temperature = asked.get("temperature")
    do_sample = asked.get("do_sample")
    draws = bool(temperature) if do_sample is None else bool(do_sample) and temperature != 0
    until = asked.get("until") or ()
    stop = (until,) if isinstance(until, str) else tuple(until)
    names = ("max_new_tokens", "repetition_penalty", *(SAMPLING if draws else ()))
    given = {name: asked[name] for name in names if asked.get(name) is not None}
    return Options.of(options, given | {"do_sample": draws, "stop": tuple(s for s in stop if s and s != FILLED_IN)})


def sorted_visuals(visuals: Any) -> tuple[list[Any], list[Any]]:
    """The videos and the images that a document shows: paths and rows of frames are videos, pictures are images.

    lmms-eval has no type for either: a task may give one visual, a list, or a list in a list. Errors: OptionError for
    what is neither, such as sound.
    """
    if visuals is None:
        return [], []
    if isinstance(visuals, (str, os.PathLike, Image.Image, np.ndarray)):
        visuals = [visuals]
    videos, images = [], []
    for visual in visuals:
        if isinstance(visual, (list, tuple)) and len(visual) == 1:
            [visual] = visual
        if isinstance(visual, Image.Image) or (isinstance(visual, np.ndarray) and visual.ndim == 3):
            images.append(visual)
        elif isinstance(visual, (str, os.PathLike, list, tuple, np.ndarray)):
            videos.append(visual)
        else:
            raise OptionError(f"a visual must be a video or an image, not of type {type(visual).__name__}")
    return videos, images


def cut(text: str, stop: Sequence[str]) -> str:
    """`text` up to the first string that it was stopped at: lmms-eval wants it left out, `generate` leaves it in."""
    for end in stop:
        text = text.split(end, 1)[0]
    return text


def report(answers: Sequence[Generation], seconds: float) -> None:
    """Tell lmms-eval how fast it went, which puts that beside the scores. Means as `specvlm.Stats` defines them."""
    stats = [answer.stats for answer in answers]
    tokens = sum(each.num_tokens for each in stats)
    forwards = sum(each.num_rounds + each.num_second_looks for each in stats)
    drafted = sum(each.num_drafted for each in stats)
    log_metrics(
        total_elapsed_time=seconds,
        total_gen_tokens=tokens,
        avg_speed=tokens / seconds if seconds > 0 else 0.0,
        additional_metrics={
            "mean_acceptance_length": (tokens - len(stats)) / forwards if forwards else 1.0,
            "acceptance_rate": sum(each.num_accepted for each in stats) / drafted if drafted else 0.0,
        },
    )
