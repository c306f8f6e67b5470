"""What one model of a pair is loaded with, apart from the other: keywords of `from_pretrained`, looked at before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, final, get_args

import torch
from transformers import PreTrainedConfig
from transformers.utils.quantization_config import QuantizationConfigMixin

from specvlm.errors import OptionError, brief
from specvlm.families.checkpoints.quantisation import by_name, require_name
from specvlm.names import Dtype

DTYPES = {name: name if name == "auto" else getattr(torch, name) for name in get_args(Dtype)}

SHARED = ("dtype", "device_map", "attn")
"""What `specvlm.load` has for both models."""

HUB = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "trust_remote_code")
"""By which the files of a checkpoint are found: its config, its weights and its processor."""

WEIGHTS = (
    "experts_implementation", "generation_config", "key_mapping", "max_memory", "offload_buffers", "offload_folder",
    "quantization_config", "use_safetensors", "variant", "weights_only",
)  # fmt: skip
"""What says how weights are read, and where to."""

OTHERWISE = {
    "attn_implementation": "is called attn here",
    "torch_dtype": "is called dtype",
    "load_in_4bit": "is quantization_config=BitsAndBytesConfig(load_in_4bit=True)",
    "load_in_8bit": "is quantization_config=BitsAndBytesConfig(load_in_8bit=True)",
    "processor": "is given to load itself, for both models",
    "output_loading_info": "is asked for by specvlm itself",
    "ignore_mismatched_sizes": "is set by specvlm, which refuses such weights by name",
    "state_dict": "has no use beside a checkpoint: pass a model object",
    "config": "has no use beside a checkpoint: give single fields of it, or pass a model object",
    "gguf_file": "is not followed: load the checkpoint that it was made of, with a quantization_config",
} | dict.fromkeys(
    ("tp_plan", "tp_size", "device_mesh", "distributed_config"),
    "splits single layers, which specvlm can't follow: device_map puts whole layers on several devices",
) | dict.fromkeys(
    ("use_kernels", "kernel_config", "allow_all_kernels"),
    "puts others' kernels in the place of layers, which specvlm would leave out",
)  # fmt: skip
"""Keywords that are known, and not taken."""


@final
@dataclass(frozen=True, eq=False)
class Keywords:
    """`role` is what errors call them: `target_kwargs`, `draft_kwargs`."""

    role: str
    dtype: str | torch.dtype = "auto"
    device_map: str | Mapping[str, Any] | None = None
    attn: str | None = None
    hub: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the model's `from_pretrained` takes."""

    @classmethod
    def of(cls, role: str, given: Any, **shared: Any) -> Keywords:
        """What was `given` for one model, over what holds for both. Errors: OptionError for what isn't taken, and for
        a dtype or a quantisation that there is none of this name."""
        if given is not None and not (isinstance(given, Mapping) and all(isinstance(name, str) for name in given)):
            raise OptionError(
                f"{role} must be a dict of keywords such as {{'dtype': 'bfloat16'}}, not {brief(repr(given))}"
            )
        given = {name: value for name, value in (given or {}).items() if value is not None}
        for name in given:
            if name in OTHERWISE:
                raise OptionError(f"{role}: {name} {OTHERWISE[name]}")
        taken = shared | {name: given[name] for name in SHARED if name in given}
        dtype = taken.get("dtype", "auto")
        if not isinstance(dtype, torch.dtype) and not (isinstance(dtype, str) and dtype in DTYPES):
            raise OptionError(f"dtype must be one of {', '.join(DTYPES)}, not {brief(repr(dtype))}")
        hub = {name: given[name] for name in HUB if name in given}
        more = {name: value for name, value in given.items() if name not in SHARED + HUB}
        if "max_memory" in more and taken.get("device_map") is None:
            taken["device_map"] = "auto"  # it says how to spread, and alone it would say nothing
        quantised = more.get("quantization_config")
        if isinstance(quantised, str):
            require_name(quantised, role)
        elif quantised is not None and not isinstance(quantised, (Mapping, QuantizationConfigMixin)):
            raise OptionError(
                f"{role}: quantization_config must be one of transformers' configs or a name, not "
                f"{brief(repr(quantised))}"
            )
        if not isinstance(more.get("max_memory", {}), Mapping):
            raise OptionError(
                f"{role}: max_memory must be a dict such as {{0: '20GiB'}}, not {brief(repr(more['max_memory']))}"
            )
        return cls(role, **taken, hub=hub, more=more)

    def settled(self, config: PreTrainedConfig) -> Keywords:
        """These, for a checkpoint with this config: a quantisation that was named is one. Errors: OptionError for
        keywords that neither loading nor this config knows, by their names."""
        unknown = [name for name in self.more if name not in WEIGHTS and not hasattr(config, name)]
        if unknown:
            known, names = (*SHARED, *HUB, *WEIGHTS), ", ".join(brief(repr(name)) for name in unknown)
            raise OptionError(
                f"{self.role}: nothing takes {names}{_nearest(unknown[0], known)}; there are {', '.join(known)}, and "
                f"the fields of its {type(config).__name__}"
            )

        named = self.more.get("quantization_config")
        if not isinstance(named, str):
            return self
        return replace(self, more={**self.more, "quantization_config": by_name(named, self.dtype_of(config))})

    def dtype_of(self, config: PreTrainedConfig) -> torch.dtype:
        """What the model will compute in. Where neither says, it is that of its files: hardly less than bfloat16."""
        wanted = DTYPES[self.dtype] if isinstance(self.dtype, str) else self.dtype
        if isinstance(wanted, torch.dtype):
            return wanted
        stored = config.dtype or getattr(config.get_text_config(), "dtype", None) or torch.bfloat16
        return stored if isinstance(stored, torch.dtype) else getattr(torch, stored)

    @property
    def trusts(self) -> bool:
        return bool(self.hub.get("trust_remote_code"))

    def of_weights(self) -> dict[str, Any]:
        """As `from_pretrained` of a model has them."""
        how = {
            "dtype": DTYPES[self.dtype] if isinstance(self.dtype, str) else self.dtype,
            "device_map": self.device_map,
            "attn_implementation": self.attn,
        }
        return {**how, **self.more}


def _nearest(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(name, known, n=1)
    return f" (is {found[0]} meant?)" if found else ""
