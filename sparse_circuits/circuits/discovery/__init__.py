"""Finding a circuit: masks, their sizes, clean-up and tuning; it looks at train and validation pairs, and judges nothing."""
