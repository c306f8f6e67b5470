"""What a request asks for: its conversation, the options of the answer, and how it wants to be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from specvlm.answering.options import Options
from specvlm.errors import OptionError, brief
from specvlm.serve.errors import RefusedError, wrong
from specvlm.serve.requests.parts import Conversation, conversation
from specvlm.serve.requests.schema import Beside, ChatRequest, ForProcessor, Ours
from specvlm.serve.settings import Settings

OF_TREES = {"num_nodes": 512, "depth": 32, "width": 64}
"""Most that may be asked of a tree: it takes memory."""

LEAST_CHUNK = 16
"""Fewest tokens in a forward of the prefill, which nobody can interrupt."""


FINITE = {"temperature": (1e-3, 1e3), "repetition_penalty": (1e-2, 1e2)}
"""Beyond these logits overflow, and nothing can be drawn: on a GPU, never again by that process. 0 draws nothing."""


@dataclass(frozen=True)
class How:
    """How an answer wants to be told."""

    stream: bool = False
    usage: bool = False
    """Whether a stream ends with what it took."""
    trace: bool = False
    """Whether each piece says who had it first."""
    look: bool = False
    """Whether nothing is answered, and only what the model would look at is wanted."""


@dataclass(frozen=True)
class Asked:
    """One request, understood."""

    talk: Conversation
    options: Options
    arm: str = "specvlm"
    how: How = How()


def understood(request: ChatRequest, settings: Settings) -> Asked:
    """Errors: RefusedError, for what can't be honoured."""
    if request.model not in (None, "", settings.name):
        told = f"there is no model {brief(repr(request.model), 80)} here; there is {settings.name}"
        raise RefusedError(404, told, param="model", code="model_not_found")
    ours = request.specvlm or Ours()
    talk = conversation(request, images_as_frames=ours.images_as_frames)
    if talk.num_bytes > settings.max_question_bytes:
        raise RefusedError(
            413, f"the text of a conversation may have {settings.max_question_bytes} bytes here", param="messages"
        )
    if len(talk.videos) + len(talk.images) > settings.max_videos:
        raise wrong("messages", f"a request may show {settings.max_videos} videos and images here")
    if any(len(link.addresses) > settings.max_frames for link in talk.videos):
        raise wrong("messages", f"a list may have {settings.max_frames} frames here")
    try:
        options = _options(request, ours, talk, settings)
    except OptionError as error:
        raise wrong(None, str(error)) from None
    usage = request.stream_options is not None and request.stream_options.include_usage
    return Asked(talk, options, ours.arm, How(bool(request.stream), usage, ours.trace))


def _options(request: ChatRequest, ours: Beside, talk: Conversation, settings: Settings) -> Options:
    given: dict[str, Any] = {"max_new_tokens": min(settings.default_new_tokens, settings.max_new_tokens)}
    most = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or ()
    told = {
        "max_new_tokens": most,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": 0 if request.top_k == -1 else request.top_k,  # as vLLM has it: all
        "min_p": request.min_p,
        "repetition_penalty": request.repetition_penalty,
        "seed": request.seed,
        "stop": tuple(stop) or None,
    }
    if request.media_io_kwargs is not None and request.media_io_kwargs.video is not None:
        told |= {name: getattr(request.media_io_kwargs.video, name) for name in ("num_frames", "fps")}
    told = {name: value for name, value in told.items() if value is not None}
    told |= _for_processor(request.mm_processor_kwargs or ForProcessor())
    beside = ours.model_dump(exclude=set(Beside.model_fields), exclude_none=True)
    given |= told | _of_part(talk) | beside
    if talk.system is not None:
        given["system"] = talk.system
    options = Options.of(None, given | {"history": talk.history, "lead": talk.lead})
    _within(options, settings)
    return options


def _for_processor(given: ForProcessor) -> dict[str, Any]:
    """`mm_processor_kwargs`, as far as they say what options say."""
    known = ForProcessor.model_fields
    for name, value in (given.model_extra or {}).items():
        if value not in (None, False):
            told = f"mm_processor_kwargs has {', '.join(known)} here, and no {brief(name, 60)}"
            raise wrong(f"mm_processor_kwargs.{brief(name, 60)}", told)
    return given.model_dump(include=set(known), exclude_none=True)


def _of_part(talk: Conversation) -> dict[str, Any]:
    """What the parts say of their frames: one thing, for frames are chosen alike in all videos of a request."""
    said = [{name: value for name, value in link.sampling.items() if name != "max_frames"} for link in talk.videos]
    if any(each != said[0] for each in said):
        raise wrong("messages", "fps and num_frames are the same for all videos of a request here")
    if not said or not said[0]:
        return {}
    return {"fps": None, "num_frames": None} | said[0]


def _within(options: Options, settings: Settings) -> None:
    """Errors: RefusedError, for what would take more than is given to one request."""
    bounds = OF_TREES | {
        "max_new_tokens": settings.max_new_tokens,
        "num_frames": settings.max_frames,
        "min_pixels": settings.max_frame_pixels,
        "max_pixels": settings.max_frame_pixels,
        "total_pixels": settings.max_pixels,
    }
    for name, most in bounds.items():
        value = getattr(options, name)
        if value is not None and value > most:
            raise wrong(name, f"{name} may be {most} at most here, not {brief(value, 60)}")
    for name, (least, most) in FINITE.items():
        value = getattr(options, name)
        if value and not least <= value <= most:
            raise wrong(name, f"{name} must be from {least:g} to {most:g} here, not {value:g}")
    if options.prefill_chunk is not None and options.prefill_chunk < LEAST_CHUNK:
        raise wrong("prefill_chunk", f"prefill_chunk must be {LEAST_CHUNK} or more here")
    if options.tree_shape().max_nodes > OF_TREES["num_nodes"] + 1:
        raise wrong("tree", f"a tree may have {OF_TREES['num_nodes']} nodes here")
