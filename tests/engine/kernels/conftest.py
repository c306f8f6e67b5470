"""Triton is where torch has CUDA: elsewhere there are no kernels to test."""

from __future__ import annotations

import sys

HAS_TRITON = sys.platform == "linux" and sys.version_info < (3, 15)

collect_ignore = [] if HAS_TRITON else ["test_tree_kernels.py", "test_tree_compiled.py"]
