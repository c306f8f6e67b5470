"""Whether a file is as it was written, as far as it can be told without decoding; and what is said of it then."""
