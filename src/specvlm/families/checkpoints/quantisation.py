"""Quantised weights by a name: of transformers' many those whose rows never see each other, whatever the target.

They are the language model's. The vision tower, what stands between the two, and the output head stay as they are: they
weigh little, quantising them costs most, and a tower that is the draft's too can still be found to be. Any other
`quantization_config` is passed on as it is, and what comes of it is looked at by `probe`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, get_args

import torch
from transformers import BitsAndBytesConfig, TorchAoConfig
from transformers.utils.import_utils import is_bitsandbytes_available, is_torchao_available

from specvlm.errors import OptionError, brief
from specvlm.names import Quantization

WHOLE = ("model.vision_tower", "model.multi_modal_projector", "model.visual", "lm_head")
"""What isn't quantised, as the families call it."""


def _nf4(dtype: torch.dtype) -> Any:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(WHOLE),  # not only those of LLM.int8(), whatever it is called
    )


def _torchao(name: str) -> Callable[[torch.dtype], Any]:
    def make(dtype: torch.dtype) -> Any:
        from torchao import quantization

        return TorchAoConfig(getattr(quantization, name)(), modules_to_not_convert=list(WHOLE))

    return make


BY_NAME: dict[Quantization, tuple[Callable[[], bool], str, Callable[[torch.dtype], Any]]] = {
    "nf4": (is_bitsandbytes_available, "bitsandbytes", _nf4),
    "int8": (is_torchao_available, "torchao", _torchao("Int8WeightOnlyConfig")),
    "float8": (is_torchao_available, "torchao", _torchao("Float8WeightOnlyConfig")),
}
"""Weights alone, in 4 or 8 bits: whether its package is here, what that is called, and its config."""


def require_name(name: str, role: str) -> None:
    """Errors: OptionError if no quantisation has this name, or its package isn't here."""
    if name not in get_args(Quantization):
        raise OptionError(
            f"{role}: a quantisation is named {', '.join(BY_NAME)}, or is a config of transformers, not "
            f"{brief(repr(name))}"
        )
    is_here, package, _ = BY_NAME[cast(Quantization, name)]
    if not is_here():
        raise OptionError(f"{role}: the quantisation {name} needs the package {package}, which isn't installed")


def by_name(name: str, dtype: torch.dtype) -> Any:
    """The quantization_config of this name, for a model that computes in `dtype`."""
    return BY_NAME[cast(Quantization, name)][2](dtype)
