"""Which file of a checkpoint is at fault: libraries stumble over a wrong value long after they have read it, and
seldom say where it stood."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from specvlm.errors import ModelError, SpecVLMError, brief

CONFIG, GENERATION, TEMPLATE = "config.json", "generation_config.json", "chat_template.jinja"
TOKENIZER, PROCESSOR = "tokenizer.json", "processor_config.json"

OBJECTS = (
    CONFIG,
    GENERATION,
    PROCESSOR,
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
)
"""Files that hold an object of JSON each, and are small enough to be read twice."""

MOST = 2**31 - 1
"""Of a size in a config: one beyond it would fill any memory."""
SIZES = ("_size", "_dim", "_heads", "_layers", "_channels", "_experts", "_embeddings", "depth")
"""How the names of sizes end."""

DEEPEST = 10_000
"""Layers of a model. Each is built, if only of shapes, before anything can be said of their sum."""
LAYERS = ("num_hidden_layers", "depth", "num_layers", "n_layers")

REASON = 500
"""Most characters of what a library says."""


@contextmanager
def blaming(name: str, find: Callable[[], str | None]) -> Iterator[None]:
    """Whatever goes wrong in the block is one line about the checkpoint `name`, with the file that `find` finds to be
    at fault, if any. What is none of a checkpoint's fault, memory that ran out, passes."""
    try:
        yield
    except (SpecVLMError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        file = None if isinstance(error, ImportError) else find()  # a package that is missing is nobody's fault
        raise ModelError(f"can't load {brief(name)} as a checkpoint: {named(file, error)}") from error


def named(file: str | None, error: BaseException) -> str:
    """The reason, behind the file that is at fault."""
    said = brief(error, REASON) or type(error).__name__
    if isinstance(error, (KeyError, AttributeError, IndexError)):  # whose words alone say little
        said = f"{type(error).__name__}: {said}"
    return said if file is None or file in said else f"{file}: {said}"


def require_sound(name: str, hub: Mapping[str, Any]) -> None:
    """Look at the files of a folder that are small, before any library does. Errors: ModelError for the first that
    holds no object of JSON, or a size or a depth beyond reason."""
    folder = Path(name) / (hub.get("subfolder") or "")
    if not folder.is_dir():
        return
    for file in OBJECTS:
        path = folder / file
        if (wrong := _wrong_file(path)) is not None:
            raise ModelError(f"can't load {brief(name)} as a checkpoint: {file} {wrong}")
        if path.exists():
            content = _read(path)
            wrong = "should hold an object" if not isinstance(content, dict) else None
            if wrong is None and file == CONFIG:
                wrong = _too_large(content) or _out_of_place(content)
            if wrong is not None:
                raise ModelError(f"can't load {brief(name)} as a checkpoint: {file}: {wrong}")


def _wrong_file(path: Path) -> str | None:
    if path.is_symlink() and not path.exists():
        return "is a link that leads nowhere"
    if not path.exists():
        return None
    if not path.is_file():
        return "is no regular file"
    try:
        _read(path)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    except UnicodeDecodeError:
        return "is no text in UTF-8"
    except (ValueError, RecursionError) as error:
        return f"is no JSON: {brief(error)}"
    return None


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _too_large(config: Mapping[str, Any], path: str = "") -> str | None:
    """The first size in a config that no model can have."""
    for key, value in config.items():
        if isinstance(value, dict) and (wrong := _too_large(value, f"{path}{key}.")) is not None:
            return wrong
        if key.endswith(SIZES) and type(value) is int and value > MOST:
            return f"{brief(path + key)} should be at most {MOST}, not {brief(value)}"
        if key in LAYERS and type(value) is int and value > DEEPEST:
            return f"{brief(path + key)} should be at most {DEEPEST} layers, not {value}"
    return None


def _out_of_place(config: Mapping[str, Any]) -> str | None:
    """Lists of numbers that a model looks at when it answers, and not before."""
    tower, text = (
        part if isinstance(part := config.get(name), dict) else {} for name in ("vision_config", "text_config")
    )
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    sections = rope.get("mrope_section") if isinstance(rope, dict) else None
    if sections is not None and not (isinstance(sections, list) and all(type(each) is int for each in sections)):
        return f"mrope_section should be a list of whole numbers, not {brief(repr(sections), 80)}"
    layers, chosen = tower.get("num_hidden_layers"), config.get("vision_feature_layer")
    if type(layers) is int:
        for layer in chosen if isinstance(chosen, list) else [chosen]:
            if type(layer) is int and not -layers - 1 <= layer <= layers:
                return f"vision_feature_layer should be one of {layers} layers, not {layer}"
    return None


def config_of(name: str, hub: Mapping[str, Any]) -> Callable[[], str | None]:
    """Finds the config of a folder, if it has one: for what is made of nothing else."""
    return lambda: _first(Path(name) / (hub.get("subfolder") or ""), CONFIG)


def wrong_of_processor(name: str, hub: Mapping[str, Any]) -> Callable[[], str | None]:
    """Finds which file of a folder its processor can't be made of, by making it piece by piece."""

    def find() -> str | None:
        folder = Path(name) / (hub.get("subfolder") or "")
        if not folder.is_dir():
            return None
        given = {key: value for key, value in hub.items() if value is not None and key != "subfolder"}
        given["trust_remote_code"] = False
        whole = folder / TOKENIZER
        if _wrong_file(whole) is not None or (
            whole.exists() and _fails(lambda: PreTrainedTokenizerFast(tokenizer_file=str(whole)))
        ):
            return TOKENIZER
        if _fails(lambda: AutoTokenizer.from_pretrained(str(folder), **given)):
            return _first(folder, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
        for loader, own in (
            (AutoVideoProcessor, "video_preprocessor_config.json"),
            (AutoImageProcessor, "preprocessor_config.json"),
        ):
            if _fails(lambda loader=loader: loader.from_pretrained(str(folder), **given)):
                return _first(folder, PROCESSOR, own, "preprocessor_config.json")
        template = folder / TEMPLATE
        if template.exists() and _fails(lambda: template.read_text(encoding="utf-8")):
            return TEMPLATE
        return _first(folder, PROCESSOR, "preprocessor_config.json")

    return find


def wrong_of_model(name: str, hub: Mapping[str, Any], build: Callable[[], object]) -> Callable[[], str | None]:
    """Finds which file of a folder its model can't be made of; `build` makes it of shapes, from the config alone."""

    def find() -> str | None:
        folder = Path(name) / (hub.get("subfolder") or "")
        if not folder.is_dir():
            return None
        if _fails(build):
            return CONFIG
        if (folder / GENERATION).exists() and _fails(lambda: GenerationConfig.from_pretrained(str(folder))):
            return GENERATION
        return next(
            (file.name for file in sorted(folder.glob("*.safetensors")) if _fails(lambda f=file: _open(f))), None
        )

    return find


def _open(file: Path) -> None:
    with safe_open(file, framework="pt"):
        pass


def _first(folder: Path, *names: str) -> str | None:
    return next((name for name in names if (folder / name).exists()), None)


def _fails(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except Exception:  # noqa: BLE001  # whatever a library stumbles over, it is this file's fault
        return True
    return False
