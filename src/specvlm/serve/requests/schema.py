"""What a request may hold, as pydantic checks it and `/openapi.json` tells it. Fields that nobody knows are ignored."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from specvlm.answering.options import Options, TreeName
from specvlm.errors import brief
from specvlm.serve.errors import wrong

Count = Annotated[int, Field(ge=0, le=2**31)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Lenient(BaseModel):
    """Strict about types, lenient about fields: clients send more than anybody reads."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Message(Lenient):
    """One turn. A part of `content` is an object with a `type`: `specvlm.serve.requests.parts` says which there are."""

    role: str
    content: str | list[str | dict[str, Any]] | None = None


class StreamOptions(Lenient):
    include_usage: bool = False


class ForVideo(Lenient):
    """`media_io_kwargs.video`, as vLLM has it."""

    num_frames: int | None = None
    fps: Number | None = None


class MediaIO(Lenient):
    video: ForVideo | None = None


class ForProcessor(BaseModel):
    """`mm_processor_kwargs`, as far as options say the same: others are refused by name."""

    model_config = ConfigDict(extra="allow", strict=True)

    num_frames: int | None = None
    fps: Number | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    total_pixels: int | None = None


class Beside(BaseModel):
    """`specvlm`: what only this server knows. Here a field that nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True)

    arm: Literal["specvlm", "ar"] = "specvlm"
    """Who answers: SpecVLM, or stock Hugging Face generate."""
    trace: bool = False
    """Whether an answer says which of its tokens were guessed, and which video tokens were kept."""
    images_as_frames: bool = False
    """Whether the images of a request are the frames of a video."""


SAID_BY_MESSAGES = ("more_videos", "images", "history", "lead", "system")
"""Options that a request has another place for."""

AS_TEXT: dict[str, Any] = {"pruner": str, "tree": TreeName | list[list[int]]}
"""What is asked of these by JSON."""


def _field(name: str, hint: Any, default: Any) -> Any:
    kind, text = get_args(hint)
    return Annotated[AS_TEXT.get(name, kind) | None, Field(description=text)], default


def _fields_of_options() -> dict[str, Any]:
    hints = get_type_hints(Options, localns={"Pruner": object, "TreeShape": object}, include_extras=True)
    names = [field.name for field in fields(Options) if field.name not in SAID_BY_MESSAGES]
    return {name: _field(name, hints[name], None) for name in names}


Ours = create_model("Ours", __base__=Beside, __doc__=Beside.__doc__, **_fields_of_options())
"""With the fields of `specvlm.Options`, each as it stands there."""


class ChatRequest(Lenient):
    """The body of `POST /v1/chat/completions`."""

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=512)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: int | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None

    media_io_kwargs: MediaIO | None = None
    mm_processor_kwargs: ForProcessor | None = None
    specvlm: Ours | None = None  # type: ignore[valid-type]

    # What can't be honoured, and is refused unless it asks for nothing.
    logprobs: bool | None = None
    top_logprobs: int | None = None
    prompt_logprobs: Any = None
    logit_bias: dict[str, Any] | None = None
    frequency_penalty: Number | None = None
    presence_penalty: Number | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    best_of: int | None = None
    use_beam_search: bool | None = None
    length_penalty: Number | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[Any] | None = None
    bad_words: list[Any] | None = None
    allowed_token_ids: list[Any] | None = None
    logits_processors: Any = None
    structured_outputs: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    echo: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_ids: bool | None = None


NOTHING: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "best_of": (1,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "skip_special_tokens": (True,),
    "add_generation_prompt": (True,),
}
"""What asks for nothing that isn't done anyway, beside null, false and what is empty."""

REFUSED = (
    *("n", "logprobs", "top_logprobs", "prompt_logprobs", "logit_bias", "frequency_penalty", "presence_penalty"),
    *("tools", "functions", "tool_choice", "response_format", "modalities", "audio", "best_of", "use_beam_search"),
    *("length_penalty", "min_tokens", "ignore_eos", "stop_token_ids", "bad_words", "allowed_token_ids"),
    *("logits_processors", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("skip_special_tokens", "include_stop_str_in_output", "echo", "continue_final_message"),
    *("add_generation_prompt", "chat_template", "chat_template_kwargs", "return_token_ids"),
)
"""Fields that other servers honour. To pass over one in silence would be to give another answer than was asked for."""


def parse(body: bytes) -> ChatRequest:
    """Errors: RefusedError (400), with the first thing that is wrong."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or None
        what = brief(first["msg"])
        raise wrong(where, what if where is None else f"{brief(where)}: {what}") from None
    for name in REFUSED:
        value = getattr(request, name)
        if not _asks_for_nothing(name, value):
            raise wrong(name, f"{name} is not supported here: leave it out", "unsupported_parameter")
    return request


def _asks_for_nothing(name: str, value: Any) -> bool:
    usual = NOTHING.get(name, ())
    return value is None or value in usual or (value in (False, [], {}, "") and not usual)
