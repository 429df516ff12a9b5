"""Train weight-sparse transformers, extract the circuits they use, and prove that they use them."""

__version__ = "0.1.0"
