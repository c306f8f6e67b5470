"""What a model is asked, as tokens and where they stand: between families, which make it, and all who read it."""
