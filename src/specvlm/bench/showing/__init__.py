"""What a bench found, for people: grids of text, plots, pages and the pictures of the docs."""
