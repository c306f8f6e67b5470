"""The Hub, asked once whether it is there: huggingface_hub itself tries for 23 s, and again for each file, and says
nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from specvlm.errors import ModelError, brief

SECONDS = 5.0
"""That the Hub's answer may take."""

CONFIGS = ("config.json", "adapter_config.json")

_FAILURES: tuple[type[Exception], ...] = HfHubHTTPError.__bases__
"""What a request can end with: OSError, and the error of whichever HTTP library huggingface_hub is made with."""


def reached(name: str, hub: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords in `hub`, by which the files of `name` are found; where the Hub doesn't answer, but has sent the
    checkpoint before, with `local_files_only`.

    A folder is taken as it is. What the Hub answers about a name is told by whoever loads it.
    Errors: ModelError with the reason, if the Hub doesn't answer and the checkpoint isn't in the cache, or if the
    system takes no such name.
    """
    found = dict(hub)
    try:
        is_here = Path(name).exists()
    except OSError as error:  # longer than any name is
        raise ModelError(f"can't load {brief(name)} as a checkpoint: {error.strerror}") from error
    if is_here or hub.get("local_files_only"):
        return found
    reason = _silence(name, hub)
    if reason is None:
        return found
    where = {key: hub[key] for key in ("cache_dir", "revision") if hub.get(key) is not None}
    prefix = f"{hub['subfolder']}/" if hub.get("subfolder") else ""
    if any(isinstance(try_to_load_from_cache(name, prefix + config, **where), str) for config in CONFIGS):
        return found | {"local_files_only": True}
    raise ModelError(
        f"can't load {brief(name)} as a checkpoint: there is no such folder, it isn't in the cache "
        f"{brief(where.get('cache_dir', constants.HF_HUB_CACHE))}, and {reason}"
    )


def _silence(name: str, hub: Mapping[str, Any]) -> str | None:
    """Why nothing can be had from the Hub; None if it answers, whatever it says, or if the name is none of its."""
    try:
        url = hf_hub_url(name, CONFIGS[0], subfolder=hub.get("subfolder"), revision=hub.get("revision"))
        get_hf_file_metadata(url, token=hub.get("token"), timeout=SECONDS)  # one request, and no second try
    except ValueError:
        return None
    except OfflineModeIsEnabled:
        return "it can't be downloaded: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
    except HfHubHTTPError as error:
        status = error.response.status_code
        return None if status < 500 else f"{constants.ENDPOINT} answers with {status}: {brief(error)}"
    except _FAILURES as error:
        return f"{constants.ENDPOINT} can't be reached: {brief(error) or type(error).__name__}"
    return None
