"""What rounds cost with models that fold what they read: random ones, in published shapes, that say nothing."""
