"""Circuits used against their own models: inputs that should fool the whole model, and whether they do."""
