"""Random pairs of prompts of every length, of which the first 0, 1, 2, ... tokens are alike; behind them stands padding."""

import torch

from sparse_circuits.tasks import PairBatch, Scoring


def random_pairs(n_pairs: int, *, n_pos: int, d_vocab: int, n_ids: int = 1, scoring: Scoring = Scoring.pair) -> PairBatch:
    """Return pairs of at most `n_pos` tokens, with so many ids for each answer."""
    positive, negative = torch.randint(d_vocab, (2, n_pairs, n_pos))
    n_shared = torch.arange(n_pairs).unsqueeze(1) % (n_pos + 1)
    negative = torch.where(torch.arange(n_pos) < n_shared, positive, negative)
    last = torch.randint(n_pos, (n_pairs,)).repeat(2)
    return PairBatch(torch.cat([positive, negative]), last, torch.randint(d_vocab, (n_pairs, 2, n_ids)), scoring)
