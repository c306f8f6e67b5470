"""The decode loop. It knows tensors and caches; it knows no model family, no file and no command line."""
