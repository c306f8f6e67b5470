"""From a file to its frames: how fast, beside the other readers that people have."""
