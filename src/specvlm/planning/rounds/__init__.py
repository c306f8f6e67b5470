"""plan="auto" where rounds are played on the device: one of a few envelopes for each, or none."""
