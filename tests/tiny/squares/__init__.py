"""The families that see squares of one size."""
