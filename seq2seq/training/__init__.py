"""Training: Lightning computes the steps, the boundary decides what happens between them."""
