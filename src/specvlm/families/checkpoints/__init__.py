"""Checkpoints before they are models: whether they are there, and what they are loaded with."""
