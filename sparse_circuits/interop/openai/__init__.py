"""OpenAI's circuit_sparsity in: models, tokenizer, published circuits; nothing is unpickled but tensors and plain values."""

from sparse_circuits.interop.openai.checkpoint import Imported, load_openai
from sparse_circuits.interop.openai.replay import Replay, replay, replay_text
from sparse_circuits.interop.openai.tokenizer import load_tinypython

__all__ = ["Imported", "Replay", "load_openai", "load_tinypython", "replay", "replay_text"]
