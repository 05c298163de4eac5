"""Several processes: which one this is, starting the others, and talking to them."""
