"""What the files of a run's folder may hold, as pydantic checks it when they are read: a folder is anybody's to edit.

Fields that nobody knows are let through: a run of a later build has some. Names and answers may hold letters that are
no UTF-8 (`writing.ESCAPED`), which pydantic's own text would refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from specvlm.errors import brief

FORMAT = 1
"""Of the files in a run's folder. A build reads this one and those before it."""

DEEPEST = 64
"""Objects and lists within each other in a config: more are walked by nobody."""

QUOTED = 80
"""Most characters of a value that a message quotes."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("should be a text")
    return value


Text = Annotated[str, PlainValidator(_text)]
Count = Annotated[int, Field(ge=0, le=2**53)]
"""What a float can hold exactly, as whoever reads JSON may take it for one."""
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
Points = Annotated[list[Amount], Field(min_length=2, max_length=2)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Of(_Model):
    """What every record is of."""

    setting: Text
    sample: Text
    arm: Text | None
    time: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
    """In seconds since 1970."""
    scores: dict[Text, Points]
    row: Text | None = None


class Failure(_Of):
    """Why there is no answer: of no arm, if no arm could have answered."""

    error: Annotated[str, PlainValidator(_text)]


class Answer(_Of):
    """One that was given, and all that was measured of it: docs/evals.md."""

    arm: Text
    error: Literal[""] | None
    video: Text
    question: Text
    choices: list[Text]
    answer: Text
    group: Text
    text: Text
    token_ids: list[Count]
    tokens: Count
    finish_reason: Text
    identical: bool | None
    first_divergence: Count | None
    mean_acceptance_length: Amount
    acceptance_rate: Annotated[float, Field(ge=0, le=1)] | None
    tokens_per_second: Amount
    ttft_seconds: Seconds
    decode_seconds: Seconds
    total_seconds: Seconds
    decode_speedup: Amount | None
    end_to_end_speedup: Amount | None
    num_video_tokens: Count
    num_kept: Count
    peak_memory_bytes: Count
    phases: dict[Text, Seconds]
    num_rounds: Count
    num_drafted: Count
    num_accepted: Count
    accepted_per_depth: Annotated[list[Count], Field(max_length=10_000)]
    emitted_per_round: list[Count]
    dtype: Text
    damage: list[Text] = []
    kept_per_frame: list[Count] | None = None
    kept_per_stage: list[Count] | None = None
    attention_per_frame: list[Amount] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Answer:
        if self.tokens != len(self.token_ids):
            raise ValueError(f"'tokens' should be {len(self.token_ids)}, as many as 'token_ids', not {self.tokens}")
        return self


class _Setting(_Model):
    name: Text
    arms: Annotated[list[Text], Field(min_length=1)]
    options: dict[Text, Any]


class _Task(_Model):
    name: Text


class _Asked(_Model):
    format: Annotated[int, Field(ge=1, le=FORMAT)] = FORMAT
    task: _Task
    models: dict[Text, Any]
    settings: Annotated[list[_Setting], Field(min_length=1)]


class _Gpu(_Model):
    name: Text


class _Machine(_Model):
    cpu: Text | None
    threads: Count | None
    gpus: list[_Gpu]


class _Session(_Model):
    started: Text
    machine: _Machine
    versions: dict[Text, Any]


class Config(_Model):
    """config.json: what was asked, and every time that it was worked at."""

    asked: _Asked
    sessions: list[_Session]


Arms = Mapping[str, Collection[str]]
"""The arms of each setting of a run."""


def wrong_config(content: Any) -> str | None:
    """What is wrong with a config, in a line; None if nothing is."""
    if _is_deeper(content, DEEPEST):
        return f"lists and objects are nested in it more than {DEEPEST} deep"
    asked = content.get("asked") if isinstance(content, dict) else None
    written = asked.get("format") if isinstance(asked, dict) else None
    if type(written) is int and written > FORMAT:
        return f"a later specvlm wrote it, in format {brief(written, QUOTED)}; this one reads {FORMAT}: update it"
    if (wrong := _wrong(Config, content)) is not None:
        return wrong
    names = [setting["name"] for setting in content["asked"]["settings"]]
    if len(set(names)) < len(names):
        return f"two of asked.settings are called {brief(repr(max(names, key=names.count)), QUOTED)}"
    return None


def wrong_record(content: Any, arms: Arms) -> str | None:
    """What is wrong with a record of a run that has these `arms`, in a line; None if nothing is."""
    if not isinstance(content, dict):
        return f"it should be an object, not {brief(repr(content), QUOTED)}"
    if (wrong := _wrong(Failure if content.get("error") else Answer, content)) is not None:
        return wrong
    if content["setting"] not in arms:
        return f"this run has no setting {brief(repr(content['setting']), QUOTED)}"
    if content["arm"] is not None and content["arm"] not in arms[content["setting"]]:
        return f"this run has no arm {brief(repr(content['arm']), QUOTED)}"
    return None


def _wrong(model: type[_Model], content: Any) -> str | None:
    try:
        model.model_validate(content)
    except ValidationError as error:
        return _told(error)
    return None


def _told(error: ValidationError) -> str:
    """The first thing that is wrong, by its path."""
    first = error.errors(include_url=False, include_context=False)[0]
    path = _path(first["loc"])
    said = "should be an object" if first["type"] in ("model_type", "dict_type") else first["msg"]
    said = said.removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] == "missing":
        return f"it lacks {brief(repr(path), QUOTED)}"
    if not path:
        return said if first["type"] == "value_error" else f"it {said}"
    return f"{brief(repr(path), QUOTED)} {said}, not {brief(repr(first['input']), QUOTED)}"


def _path(parts: Iterable[int | str]) -> str:
    """As JavaScript would write it. What stands for a choice between kinds (`constrained-float`) is no part of it."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _is_deeper(content: Any, limit: int) -> bool:
    """Whether lists and objects are nested more than `limit` deep."""
    level = [content]
    for _ in range(limit + 1):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True
