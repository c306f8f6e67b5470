"""Families that see grids of patches as Qwen-VL does, in frames of any size: on its base, a file each."""
