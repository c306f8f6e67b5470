"""What clients send: bodies, what may stand in them, and what is understood of them."""
