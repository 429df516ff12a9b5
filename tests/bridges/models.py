"""Tiny models of random weights."""

import torch
import transformers

from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.model.dense import HuggingFace

D_VOCAB, N_CTX = 40, 12


def transformer(*, d_model: int, seed: int, **changes: object) -> Transformer:
    torch.manual_seed(seed)
    config = ModelConfig(n_layers=2, d_model=d_model, d_head=4, n_ctx=N_CTX, **changes)
    model = Transformer(config, d_vocab=D_VOCAB)
    with torch.no_grad():  # as if trained: what sublayers write matters
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def gpt2(*, d_model: int) -> HuggingFace:
    torch.manual_seed(2)
    config = transformers.GPT2Config(vocab_size=D_VOCAB, n_positions=N_CTX, n_embd=d_model, n_layer=2, n_head=2)
    return HuggingFace(transformers.GPT2LMHeadModel(config))
