"""The commands, one a file, named as they are typed (but `eval`, which Python has a function of)."""
