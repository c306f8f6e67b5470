"""What a server stands: `python -m specvlm.serve.measuring.load`, and `...measuring.questions`."""
