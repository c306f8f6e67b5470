"""Adapter folders: what peft saves of a fine-tuned model, a few weights and the name of the checkpoint they change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers.utils.hub import cached_file
from transformers.utils.import_utils import is_peft_available

from specvlm.errors import ModelError
from specvlm.families.checks.model_objects import refuse_adapters

CONFIG = "adapter_config.json"
PROCESSOR_CONFIGS = ("processor_config.json", "preprocessor_config.json")

NOWHERE = {"subfolder": "no-adapter"}
"""Has `from_pretrained` look for an adapter where there is none, and so load a checkpoint without its own."""


def base_of_adapter(name: str, hub: Mapping[str, Any]) -> str | None:
    """The checkpoint whose adapter lies in the folder, or under the Hub id, `name`; None if none does.

    A whole checkpoint may bring an adapter along: then it is its own base, as for transformers. `hub` are the keywords
    by which files are found (`keywords.HUB`).
    Errors: ModelError for an adapter that can't be read, or of a kind that specvlm can't follow.
    """
    if (path := _find(name, CONFIG, hub)) is None:
        return None
    try:
        config: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        kind, tokens = config["peft_type"], config.get("alora_invocation_tokens")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"can't load {name} as an adapter: {CONFIG}: {type(error).__name__}: {error}") from error
    refuse_adapters({"default": SimpleNamespace(peft_type=kind, alora_invocation_tokens=tokens)}, name)
    if not is_peft_available():
        raise ModelError(f"{name} is an adapter, and the package peft, which would load it, isn't installed")
    if _find(name, "config.json", hub) is not None:
        return name
    base = config.get("base_model_name_or_path")
    if not base:
        raise ModelError(f"{name} is an adapter without a model: name it as base_model_name_or_path in its {CONFIG}")
    return str(base)


def without_adapter(hub: Mapping[str, Any], **where: str) -> dict[str, Any]:
    """Keywords that keep `from_pretrained`, which looks for an adapter first, from asking a Hub that doesn't answer: by
    the `local_files_only` that everything else goes by it doesn't go. `where` it looks: `NOWHERE`, or with the rest."""
    silent = {name: hub[name] for name in ("cache_dir", "local_files_only") if name in hub}
    look = {**where, **(silent if silent.get("local_files_only") else {})}
    return {"adapter_kwargs": look} if look else {}


def holds_processor(name: str, hub: Mapping[str, Any]) -> bool:
    """Whether a processor was saved in this folder, or under this Hub id."""
    return any(_find(name, config, hub) is not None for config in PROCESSOR_CONFIGS)


def names_processor(name: str, hub: Mapping[str, Any]) -> bool:
    """Whether the files of a checkpoint, those that AutoProcessor reads, say which class its processor is of."""
    processor, images = (_find(name, config, hub) for config in PROCESSOR_CONFIGS)
    images = images or _find(name, "video_preprocessor_config.json", hub)
    return any(_says_class(path) for path in (processor, images, _find(name, "tokenizer_config.json", hub)) if path)


def _says_class(path: str) -> bool:
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # as whoever loads it will say
        return True
    return isinstance(config, dict) and config.get("processor_class") is not None


def _find(name: str, file: str, hub: Mapping[str, Any]) -> str | None:
    """Where a file of a checkpoint is; None if it has none of this name."""
    found = {key: value for key, value in hub.items() if key != "trust_remote_code"}
    if Path(name).is_dir():
        path = Path(name) / found.get("subfolder", "") / file
        return str(path) if path.is_file() else None
    try:
        return cached_file(
            name,
            file,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **found,
        )
    except (OSError, ValueError):  # no checkpoint at all, as whoever loads it will say
        return None
