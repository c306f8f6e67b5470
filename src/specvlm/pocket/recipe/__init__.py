"""How the embedded pairs are made: material, courses, training."""
