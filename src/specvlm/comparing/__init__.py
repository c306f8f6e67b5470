"""Stock generate and the other ways to answer, measured side by side: the one record of all commands."""
