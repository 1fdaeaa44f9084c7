"""Evidence ladder and maker fills: a run's results, computed from its records."""
