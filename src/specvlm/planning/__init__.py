"""The plan is made for the machine: what forwards cost, what guesses are worth, and the tree that pays best."""
