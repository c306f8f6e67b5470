"""One answer: what is asked for, the prompt's way through target, pruner and draft, and the text that comes."""
