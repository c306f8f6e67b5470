"""One video, many questions: what an answer leaves for the next, in memory that is bounded."""
