"""The Qwen-VL models: one base, and a file for each `model_type`."""
