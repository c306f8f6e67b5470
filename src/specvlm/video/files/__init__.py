"""A video file from outside: the ways its bytes are handed over, its container, its packets."""
