"""Families that see squares of one size, each by itself: one base, and a file for each `model_type`."""
