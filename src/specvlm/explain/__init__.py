"""Why an answer came as fast as it did: what the draft saw, and what became of its guesses, in pictures."""

from specvlm.explain.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
