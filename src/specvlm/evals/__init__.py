"""Evaluating: published tasks, the resumable run, scores and reports."""
