"""What is looked at: got from where it is, kept while it is asked about, and decoded within bounds."""
