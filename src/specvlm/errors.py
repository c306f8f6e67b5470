"""The errors that a caller can act on. Each message names the value that was wrong and what would be right.

The library raises them, the command line turns them into one line and exit code 2.
"""

from __future__ import annotations


class SpecVLMError(ValueError):
    """Base of every error that bad input can cause."""


class OptionError(SpecVLMError):
    """An option is outside its range, unknown, or contradicts another one."""


class VideoError(SpecVLMError):
    """A video can't be read, or holds nothing to look at."""


class ModelError(SpecVLMError):
    """A checkpoint can't be loaded, isn't supported, or doesn't fit its partner."""
