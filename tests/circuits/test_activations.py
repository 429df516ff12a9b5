"""Activations on prompts: those of all prompts in one pass, each up to its end."""

import torch

from sparse_circuits.circuits.activations import prompt_activations
from sparse_circuits.circuits.margin import PROMPTS_AT_ONCE
from sparse_circuits.model import ModelConfig, Transformer, record
from sparse_circuits.tasks import PairBatch, Scoring


def test_equal_one_pass_cut_at_each_prompts_end_and_taps_act() -> None:
    model = Transformer(ModelConfig(n_layers=1, d_model=16, n_ctx=6, d_head=4), d_vocab=30).double()
    n_pairs = PROMPTS_AT_ONCE // 2 + 3
    last = torch.randint(6, (2 * n_pairs,))
    batch = PairBatch(torch.randint(30, (2 * n_pairs, 6)), last, torch.randint(30, (n_pairs, 2, 1)), Scoring.pair)
    taps = {"0.attn.q": lambda value: value + 1}
    found = prompt_activations(model, batch, ["0.attn.q", "0.mlp.*"], taps=taps)
    whole = record(model, batch.tokens, ["0.attn.q", "0.mlp.*"], taps=taps)
    for site, values in found.items():
        prompts = [value[: end + 1] for value, end in zip(whole[site], last, strict=True)]
        torch.testing.assert_close(values, torch.cat(prompts).detach())
    assert "0.mlp.post_act" in found and not found["0.attn.q"].requires_grad
