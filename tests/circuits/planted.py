"""A planted model: which nodes answer is known, since every weight was put there by hand.

Channel 0 of the embedding says which answer is right. Four neurons read it, each with some noise of its own (channels 4 to 6);
each gives a quarter of the answer, and their sum, in channel 1, is what the model says (the honest way). One more neuron says
the answer, too, as loud as half of them, in channel 2, where yet another cancels it (the cheat): ablate the latter and the
former alone answers. Channel 7 is constant. Attention writes nothing.
"""

import torch

from sparse_circuits.circuits import MaskConfig, Means, measure_means
from sparse_circuits.circuits.discovery.search import Search
from sparse_circuits.circuits.sampler import TaskPairs
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.model.config import Activation
from sparse_circuits.tasks import PairBatch, Scoring

CONFIG = ModelConfig(n_layers=1, d_model=8, n_ctx=4, d_head=4, d_mlp=8, activation=Activation.relu, bigram=False, abs_topk=1.0)
N_SAYING = 12
"""Tokens that say which answer is right, as many for either."""
ANSWERS = (2 * N_SAYING, 2 * N_SAYING + 1)
HONEST = {"0.mlp.act_in": [0], "0.mlp.post_act": [0, 1, 2, 3], "0.mlp.resid_delta": [1], "final_resid": [1]}
CHEAT = {"0.mlp.act_in": [0], "0.mlp.post_act": [4], "0.mlp.resid_delta": [2], "final_resid": [2]}


def planted_model() -> Transformer:
    """Return the model, in float64."""
    model = Transformer(CONFIG, d_vocab=2 * N_SAYING + 2).double().requires_grad_(False)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.zero_()
    model.embed.weight[:N_SAYING, 0], model.embed.weight[N_SAYING:, 0] = 1, -1
    model.embed.weight[:, 4:7].uniform_(-1, 1)
    model.embed.weight[:, 7] = 4
    mlp = model.layers[0].mlp
    mlp.into.weight[:6, 0] = torch.tensor([3.0, -3.0, 3.0, -3.0, 3.0, 3.0])
    mlp.into.weight[range(6), [4, 5, 6, 4, 5, 5]] = 1
    mlp.out.weight[1, :4] = torch.tensor([1.0, -1.0, 1.0, -1.0])
    mlp.out.weight[2, 4:6] = torch.tensor([2.0, -2.0])
    model.unembed.weight[ANSWERS[0], 1:3], model.unembed.weight[ANSWERS[1], 1:3] = 1.5, -1.5
    return model


def planted_pairs(n_pairs: int) -> PairBatch:
    """Return prompts of two tokens, the last of which says the answer."""
    saying = torch.randint(N_SAYING, (2 * n_pairs,))
    saying[n_pairs:] += N_SAYING
    tokens = torch.stack([torch.randint(2 * N_SAYING, (2 * n_pairs,)), saying], dim=1)
    answers = torch.tensor(ANSWERS).view(1, 2, 1).expand(n_pairs, 2, 1)
    return PairBatch(tokens, torch.ones(2 * n_pairs, dtype=torch.int64), answers, Scoring.pair)


def planted_means(model: Transformer) -> Means:
    """Return the means over all tokens."""

    class Everything:
        def next_batch(self) -> torch.Tensor:
            return torch.arange(2 * N_SAYING).unsqueeze(1).expand(-1, 3)

    return measure_means(model, Everything(), n_tokens=1)


def planted_search(
    config: MaskConfig, *, model: Transformer | None = None, target_loss: float = 0.1, n_validation_pairs: int = 16
) -> Search:
    """Return the search for the planted circuit, no scale above 1."""
    model = model or planted_model()
    pairs = TaskPairs(planted_pairs(32), planted_pairs(n_validation_pairs), planted_pairs(16))
    return Search(model, pairs, planted_means(model), config, target_loss=target_loss, max_scale=1.0)
