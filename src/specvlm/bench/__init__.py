"""Measuring: models of real shapes, bounds that the machine sets, and how near to them an answer comes."""
