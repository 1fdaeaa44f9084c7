"""The evidence ladder and maker fills: what a run is worth, computed from its records."""
