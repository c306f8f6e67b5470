"""Options that several commands share.

Those of one answer are the fields of `specvlm.Options`: one added there is an option of every command by itself.
Neither --help nor a mistyped option waits for PyTorch.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from itertools import chain
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, final, get_args, get_origin, get_type_hints

import typer

from specvlm.answering.options import Options
from specvlm.cli.help import HELP_ALL
from specvlm.cli.screen import bars, note, silence, waiting
from specvlm.errors import OptionError, brief
from specvlm.names import KEYWORDS, Dtype, Quantization

if TYPE_CHECKING:
    from specvlm.answering.feature_cache import FeatureCache
    from specvlm.answering.survey import Survey
    from specvlm.pipeline import Outlook, SpecVLM

Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Write the record to standard output, as one line of JSON; all else goes to standard error."
    ),
]
DEVICE = (
    "`auto`: the first GPU that has room for both models, several GPUs where one hasn't, or else the CPU; or `cuda:0`, "
    "`cpu`, ..."
)
WHERE = "In place of --device, the `device_map` of transformers: `auto`, `balanced`, `cuda:0`, ..."
BEFOREHAND = (
    "What is done beforehand, so that decoding needs less of Python: `graphs` (CUDA graphs), `inductor` (forwards are "
    "compiled too, in minutes), `none`, or `auto`: graphs on CUDA."
)
Device = Annotated[str, typer.Option(help=DEVICE)]
DeviceMap = Annotated[str | None, typer.Option(help=WHERE)]
Beforehand = Literal["auto", "none", "graphs", "inductor"]
Compile = Annotated[Beforehand, typer.Option(help=BEFOREHAND, rich_help_panel="Loading")]
VideoSource = Annotated[
    str,
    typer.Argument(
        metavar="VIDEO",
        help="A video file, or its `file:` or `data:` URI; a folder of pictures; or `-` for a video on standard input.",
    ),
]


class Bundle(dict[str, Any]):
    """What was given of several options; a command takes them as one parameter of this type."""

    parameters: ClassVar[tuple[inspect.Parameter, ...]]


MOST_THREADS = 1024
"""More than any processor has cores; a system ends a process that asks for more than it has to give."""


def use_threads(number: int | None) -> None:
    """Compute with so many CPU threads; None: with as many as PyTorch thinks best."""
    import torch

    if number is not None:
        torch.set_num_threads(number)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let typer see each option of a command's bundles, and gather them again for the command. It has `--help-all`."""
    signature = inspect.signature(command, eval_str=True)
    bundles: dict[str, type[Bundle]] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and issubclass(parameter.annotation, Bundle)
    }

    @functools.wraps(command)
    def gather(**given: Any) -> None:
        del given[HELP_ALL.name]
        for name, bundle in bundles.items():
            given[name] = bundle({option.name: given.pop(option.name) for option in bundle.parameters})
        command(**given)

    parameters = [parameter for name, parameter in signature.parameters.items() if name not in bundles]
    parameters += [option for bundle in bundles.values() for option in bundle.parameters]
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    vars(gather)["__signature__"] = signature.replace(parameters=[*keywords, HELP_ALL])
    return gather


def _option(name: str, kind: Any, default: Any, panel: str, help_text: str, **extra: Any) -> inspect.Parameter:
    info = typer.Option(help=help_text, rich_help_panel=panel, **extra)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind | None, info]
    )


APART: dict[str, tuple[Any, str]] = {
    "dtype": (Dtype, "Its dtype, if not --dtype."),
    "device_map": (str, "Where it goes, if not where --device or --device-map says."),
    "attn": (str, "Its attention, if not --attn."),
    "revision": (str, "The branch, tag or commit of its Hub repository."),
    "quantization": (Quantization, "Its weights quantised as they are read."),
}
"""What can be said of the target and of the draft apart, as `--target-dtype` and `--draft-dtype`."""


@final
class Models(Bundle):
    """Which models answer, and how they are loaded."""

    parameters = (
        _option(
            "target", str, "pocket", "Models",
            "The model whose answer it is: a path, a Hub id, or the embedded `pocket` (or `pocket-qwen2_5_vl`), which "
            "brings its own draft.",
        ),
        _option(
            "draft", str, None, "Models",
            "The small model that guesses: a path, a Hub id, `pocket`, or `self`: the target over a part of its own "
            "memory. Without one the target decodes by itself.",
        ),
        _option(
            "dtype", Dtype, "auto", "Models",
            "Of weights and of all that is computed; `auto`: as in the checkpoint (`pocket`: float32).",
        ),
        _option("device", str, "auto", "Models", DEVICE),
        _option("device_map", str, None, "Loading", WHERE),
        _option(
            "attn", str, None, "Loading",
            "Attention of stock generate and of the vision tower, such as `sdpa`; decoding has its own.",
        ),
        _option("compile", Beforehand, "auto", "Loading", BEFOREHAND),
        _option(
            "threads", int, None, "Loading", "CPU threads (default: as PyTorch thinks best).", min=1, max=MOST_THREADS
        ),
        *(
            _option(f"{role}_{name}", kind, None, f"The {role} apart", help_text)
            for role in ("target", "draft") for name, (kind, help_text) in APART.items()
        ),
    )  # fmt: skip

    @property
    def have_draft(self) -> bool:
        with waiting("Loading"):
            from specvlm.pipeline import POCKET

        return self["draft"] is not None or self["target"] in POCKET

    def require(self, arms: Iterable[str], repeats: int = 1) -> None:
        """Errors: OptionError for arms that can't be run, before anything is loaded."""
        with waiting("Loading"):
            from specvlm.comparing.compare import checked

            checked(arms, repeats, has_draft=self.have_draft)

    def named(self, arms: str, repeats: int = 1) -> tuple[str, ...]:
        """The arms in a text. Errors: as those of `require`; OptionError for a text without any."""
        with waiting("Loading"):
            from specvlm.comparing.compare import named

            names = named(arms)
        self.require(names, repeats)
        return names

    def how(self) -> dict[str, Any]:
        """As `specvlm.load` is called; what is new there only if it was given, for runs that are to be gone on with."""
        found = {name: self[name] for name in ("target", "draft", "dtype", "device_map", "attn", "compile")}
        if self["device"] != "auto":
            found["device"] = self["device"]
        for role in ("target", "draft"):
            given = {KEYWORDS.get(name, name): self[f"{role}_{name}"] for name in APART}
            if given := {name: value for name, value in given.items() if value is not None}:
                found[f"{role}_kwargs"] = given
        return found

    def look(self, context: int | None = None) -> Outlook:
        """What the models would weigh, and where they would go. Errors: ModelError, OptionError."""
        with waiting("Looking at the models"):
            from specvlm.pipeline import look

            silence()
            return look(**self.how(), context=context)

    def load(self, options: Options | None = None, feature_cache: FeatureCache | None = None) -> SpecVLM:
        """The models; and, if answers will be asked for with `options` that need it, what this machine is like."""
        outlook = replace(self.look(), feature_cache=feature_cache)
        use_threads(self["threads"])
        vlm = loaded(outlook)
        if options is not None and options.planned and vlm.draft is not None:
            with waiting("Measuring what forwards cost on this machine, once"):
                from specvlm.answering.request import measure

                measure(vlm.pair, options)
        return vlm


@final
class Features(Bundle):
    """Where what was decoded and seen is kept for another day, if it is."""

    parameters = (
        _option(
            "feature_cache", str, None, "Loading",
            "A folder that keeps what was decoded and seen of each video: no later run has to do it again, whatever it "
            "asks.",
            metavar="DIR",
        ),
        _option(
            "feature_cache_gb", float, None, "Loading",
            "How large that folder may become; what was used least recently goes first (default: 20).",
            metavar="GB",
        ),
    )  # fmt: skip

    def cache(self) -> FeatureCache | None:
        """Errors: OptionError."""
        folder, size = self["feature_cache"], self["feature_cache_gb"]
        if folder is None:
            if size is not None:
                raise OptionError("--feature-cache-gb is the size of a folder: name it with --feature-cache")
            return None
        with waiting("Loading"):
            from specvlm.answering.feature_cache import DEFAULT_GB, FeatureCache

            return FeatureCache(folder, DEFAULT_GB if size is None else size)


@final
class Loading(Bundle):
    """How models are loaded that a command takes as arguments."""

    parameters = tuple(each for each in Models.parameters if each.name not in ("target", "draft"))

    def load(self, target: str, draft: str | None, feature_cache: FeatureCache | None = None) -> SpecVLM:
        """As `Models.load`, ready for answers of any options."""
        with waiting("Loading"):
            options = Options()
        return Models(self | {"target": target, "draft": draft}).load(options, feature_cache)


MOMENT = 2**28
"""Bytes of weights that are loaded before anybody has read a line about it."""


def loaded(outlook: Outlook) -> SpecVLM:
    """Load, and say on standard error where to and what: the place in one line, if it was left open, and a line for
    each model that takes its time. On a terminal the bars of transformers and of the Hub are let through. Nothing is
    said of the embedded toys where there is no GPU: a CPU is what anybody would think of."""
    survey = outlook.survey
    survey.require_room()  # before anything is said of a place
    is_brief = survey.weights is not None and survey.weights < MOMENT
    if survey.is_open and (survey.memory.gpus or not _is_toy(survey)):
        note(f"device: {survey.placement.reason}")
    if is_brief:
        with waiting("Loading the models"):
            return outlook.load()
    with bars():
        return outlook.load(note)


def _is_toy(survey: Survey) -> bool:
    """Whether all that is loaded is embedded."""
    from specvlm.pocket import is_embedded

    models = [model for model in (survey.target, survey.draft) if model is not None and not isinstance(model, str)]
    return all(is_embedded(model.name) for model in models)


NO_TEXT = {"Pruner": object, "TreeShape": object}
"""Types among the annotations that come with PyTorch: objects of Python, which no command line can give."""

ONLY_IN_PYTHON = ("history", "lead")
"""Options that no flat text can carry."""


PANELS: dict[str, tuple[str, ...]] = {
    "Answer": ("max_new_tokens", "temperature"),
    "Frames": ("num_frames", "fps"),
    "Drafting": ("plan", "pruning_ratio", "pruner"),
    "Sampling": ("do_sample", "seed", "top_k", "top_p", "min_p", "repetition_penalty", "stop"),
    "More about frames": (
        *("source_fps", "video_backend", "min_pixels", "max_pixels", "total_pixels", "more_videos", "images"),
    ),
    "More about drafting": (
        *("tree", "depth", "num_nodes", "width", "positions", "vision", "prune_images", "self_scope", "rounds"),
    ),
    "Others": (),
}
"""Where help shows the options of an answer, the usual ones first. The last takes what no other has."""


def _options_of_an_answer() -> Iterator[inspect.Parameter]:
    hints = get_type_hints(Options, localns=NO_TEXT, include_extras=True)
    defaults = {field.name: field.default for field in fields(Options) if field.name not in ONLY_IN_PYTHON}
    for panel, names in PANELS.items():
        for name in names or [name for name in defaults if name not in chain(*PANELS.values())]:
            kind, text = get_args(hints[name])
            yield _option(name, _kind(kind), defaults[name], panel, text)


def _kind(hint: Any) -> Any:
    """What the command line makes of an option's type; several at once are text, which the library understands or
    refuses."""
    kinds = (
        [each for each in get_args(hint) if each is not NoneType] if get_origin(hint) in (Union, UnionType) else [hint]
    )
    if len(kinds) > 1:
        return str
    return list[str] if get_origin(kinds[0]) is tuple else kinds[0]


@final
class Answer(Bundle):
    """What one answer is asked with: the fields of `specvlm.Options`."""

    parameters = tuple(_options_of_an_answer())

    def options(self) -> Options:
        """Errors: OptionError."""
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.items()
        }
        if (given["tree"] or "").lstrip().startswith("["):
            given["tree"] = _paths(given["tree"])
        with waiting("Loading"):  # PyTorch, which checks the pruner and the tree
            return Options(**given)


def _paths(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise OptionError(
            f"tree: {brief(repr(text))} is no JSON list of paths such as '[[0], [0, 0]]': {error}"
        ) from None
