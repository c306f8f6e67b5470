"""Frames of a video that are looked at while others are still being decoded."""
