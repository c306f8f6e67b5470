"""Keys and values: written in place, moved once, lent; and what a target sees of its own as its own draft."""
