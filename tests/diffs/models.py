"""Small bases: of ours, and of families of Hugging Face's."""

import torch
import transformers
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


def llama() -> nn.Module:
    """Return a Llama as `transformers` has it."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=D_VOCAB, **shape, bos_token_id=None, eos_token_id=None)
    return transformers.LlamaForCausalLM(config).double().eval().requires_grad_(False)


def gpt2() -> nn.Module:
    """Return a GPT-2, whose weights are the other way round."""
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 16}
    config = transformers.GPT2Config(vocab_size=D_VOCAB, **shape, bos_token_id=None, eos_token_id=None)
    return transformers.GPT2LMHeadModel(config).double().eval().requires_grad_(False)


def bases() -> dict[str, Dense]:
    """Return a base of every kind, behind one face."""
    return {"ours": ours(), "llama": HuggingFace(llama()), "gpt2": HuggingFace(gpt2())}
