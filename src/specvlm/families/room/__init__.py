"""What models will take, what is free here, and where they go: decided before a weight is read."""
