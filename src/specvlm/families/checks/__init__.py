"""Whether a model is one whose answers can be stock's, whoever changed it: if not, it is refused by name."""
