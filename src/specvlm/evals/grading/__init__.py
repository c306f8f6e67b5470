"""How right an answer is: options named, references met."""
