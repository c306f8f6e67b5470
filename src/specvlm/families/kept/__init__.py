"""What vision towers made of a prompt's frames, kept on disk: under which facts, and when not."""
