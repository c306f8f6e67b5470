"""What torch does slowly: products and attention of a few rows, and how they are lent to a model."""
