"""Rounds of tensors alone: guesses grow, are checked and kept on the device, and the host reads once a round."""
