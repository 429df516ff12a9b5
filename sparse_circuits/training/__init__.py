"""Training: the loop, the steps it takes, and what remembers and tracks them."""
