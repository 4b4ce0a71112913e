"""One-operator networks, and what computes them."""
