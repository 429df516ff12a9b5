"""Small bases: of ours, and of families of Hugging Face's."""

import torch
from families import made
from torch import nn

from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.model.dense import Dense, HuggingFace

D_VOCAB = 30


def ours() -> Transformer:
    """Return a transformer of ours."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig(n_layers=2, d_model=16, d_head=4, n_ctx=16, abs_topk=1.0, bigram=False), d_vocab=D_VOCAB)
    with torch.no_grad():  # large enough to say something
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval().requires_grad_(False)


def theirs(family: str) -> nn.Module:
    """Return a model of `transformers`."""
    return made(family, vocab_size=D_VOCAB).double().requires_grad_(False)


def llama() -> nn.Module:
    """Return a Llama as `transformers` has it."""
    return theirs("llama")


def gpt2() -> nn.Module:
    """Return a GPT-2, whose weights are the other way round."""
    return theirs("gpt2")


def bases() -> dict[str, Dense]:
    """Return a base of every kind, behind one face."""
    return {"ours": ours(), "llama": HuggingFace(llama()), "gpt2": HuggingFace(gpt2())}
