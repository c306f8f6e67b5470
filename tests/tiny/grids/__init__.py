"""The families that see grids of patches as Qwen-VL does."""
