"""List published shapes; build a pair and check it: `python -m specvlm.bench.widened --pair NAME --check`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import torch

from specvlm.bench.widened import check as checks
from specvlm.bench.widened.shapes import PAIRS, SHAPES, table


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 1 when a check fails."""
    parser = argparse.ArgumentParser(
        prog="python -m specvlm.bench.widened",
        description="List published shapes; build a pair and check it.",
    )
    parser.add_argument("--pair", choices=list(PAIRS), help="pair to build (default: only list the shapes)")
    parser.add_argument("--check", action="store_true", help="build the pair, and prove what it costs and answers")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--cached", type=int, default=300, help="tokens in the cache of the timed steps (default 300)")
    parser.add_argument("--steps", type=int, default=7, help="timed steps in each of the three turns (default 7)")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of the answer to compare (default 32)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    dtype = getattr(torch, options.dtype)
    sys.stdout.write(table(list(SHAPES.values()), dtype) + "\n")
    if not options.check:
        return 0
    if options.pair is None:
        parser.error("--check needs --pair")
    found = checks.check_pair(
        PAIRS[options.pair], dtype=dtype, cached=options.cached, steps=options.steps, max_new_tokens=options.tokens
    )
    for each in found:
        sys.stdout.write(each.report() + "\n")
    return 0 if all(each.passed for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
