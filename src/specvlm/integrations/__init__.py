"""Doors from other people's code into ours. Each is one file, and none is imported unless it is asked for."""
