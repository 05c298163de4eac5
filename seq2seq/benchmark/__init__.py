"""What training takes on this machine, measured so that anyone can repeat it."""
