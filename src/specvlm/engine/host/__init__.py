"""What the operating system says of the machine that Python runs on, and of this process."""
