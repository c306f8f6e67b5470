"""Models of published shapes that answer: `python -m specvlm.bench.widened` lists them, builds a pair and checks it."""
