"""What torch does slowly: products and attention of a few rows on CPUs, and how they are lent to a model."""
