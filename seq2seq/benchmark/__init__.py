"""What training and translation take on this machine, measured so that anyone can repeat it."""
