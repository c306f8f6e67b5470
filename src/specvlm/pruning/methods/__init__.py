"""The ways to choose the video tokens that the draft sees: one method a file."""
