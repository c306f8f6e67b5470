"""What people read in the place of an arm's name."""

from __future__ import annotations

WORDS = {
    "ar": "stock generate",
    "ar-no-cudnn": "stock generate, no cuDNN",
    "ar-static": "stock generate, static cache",
    "assisted": "HF assisted",
    "assisted-static": "HF assisted, static cache",
    "prompt_lookup": "HF prompt lookup",
    "loop": "our loop, no draft",
    "sd": "plain speculation",
    "specvlm": "SpecVLM",
    "chain": "SpecVLM, chains",
    "paper": "SpecVLM, paper's tree",
    "dynamic": "SpecVLM, dynamic tree",
    "auto": "SpecVLM, planned",
    "strict": "SpecVLM, strict",
}


def words(name: str) -> str:
    """An arm in words, with its ratio if it carries one; what is no arm, as it is."""
    base, _, ratio = name.partition("@")
    if base not in WORDS or not (ratio == "" or ratio.replace(".", "", 1).isdecimal()):
        return name
    return WORDS[base] + (f", {100 * float(ratio):g} % pruned" if ratio else "")
