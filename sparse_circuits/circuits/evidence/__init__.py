"""What is held against a circuit that was found, on pairs that nothing was fitted to."""
