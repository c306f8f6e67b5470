"""A grid of settings as one run: its jobs, figures, pictures and page."""
