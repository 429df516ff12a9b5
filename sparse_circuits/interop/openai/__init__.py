"""OpenAI's circuit_sparsity models in: config, checkpoint, tokenizer; nothing is unpickled but plain tensors."""

from sparse_circuits.interop.openai.checkpoint import Imported, load_openai
from sparse_circuits.interop.openai.tokenizer import load_tinypython

__all__ = ["Imported", "load_openai", "load_tinypython"]
