"""Controls that search again: for nonsense in the model, and for the task in a model that knows nothing.

Source: Drori 2026. A mask with freedom enough reaches a low loss on answers assigned against sense, and in networks of random
weights. So the very search that found a circuit goes there too, and must fail: at the size that serves the real task, the loss
must stay near ln 2.
- `swapped`: every prompt is asked for the wrong answer.
- `coin`: the answers are swapped in those families of prompts on which a coin says so. A family is what the two prompts of a
  pair share and all splits know: the depth of the target line and the head of the block it stands in. Half of the families, at
  least one, are swapped, so that neither the task nor its opposite is what is asked.
- `random_weights`: every matrix keeps its nonzero values, at other places.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from copy import deepcopy
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sparse_circuits.circuits.card import Control
from sparse_circuits.circuits.discovery.search import Search
from sparse_circuits.circuits.means import Means, measure_means
from sparse_circuits.circuits.sampler import TaskPairs
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.model import Transformer
from sparse_circuits.tasks import PairBatch

Nonsense = dict[Control, list[Search]]
"""Searches in which there is nothing to find, by kind."""


def nonsense(search: Search, tokenizer: Tokenizer, *, kinds: Collection[Control] = tuple(Control), n_controls: int) -> Nonsense:
    """Return the search on nonsense and in models that know nothing, so many of each kind.

    Args:
        search: for the real task.
        tokenizer: to tell families of prompts apart.
        kinds: which; random weights only where the means hold a sample of pretraining tokens.
        n_controls: each with a seed of its own.
    """
    seeds = range(search.seed, search.seed + n_controls)
    if not seeds:
        return {}
    possible = set(kinds) if search.means.sample is not None else set(kinds) - {Control.random_weights}
    return {kind: [_control(search, tokenizer, kind, seed=seed) for seed in seeds] for kind in Control if kind in possible}


def _control(search: Search, tokenizer: Tokenizer, kind: Control, *, seed: int) -> Search:
    match kind:
        case Control.swapped:
            return search.on(swapped(search.pairs), seed=seed)
        case Control.coin:
            return search.on(coin_assigned(search.pairs, tokenizer, seed=seed), seed=seed)
        case Control.random_weights:
            model = random_weights(search.model, seed=seed)
            return search.inside(model, means_on_sample(model, search.means.sample))
    raise AssertionError(kind)


def swapped(pairs: TaskPairs) -> TaskPairs:
    """Return the pairs with every answer against sense."""
    return TaskPairs(*(swap_where(batch, torch.ones(batch.n_pairs, dtype=torch.bool)) for batch in pairs))


def coin_assigned(pairs: TaskPairs, tokenizer: Tokenizer, *, seed: int) -> TaskPairs:
    """Return the pairs with the answers of some families of prompts against sense, the same families in every split."""
    named = [[_family(tokens, tokenizer) for tokens in batch.tokens[: batch.n_pairs].tolist()] for batch in pairs]
    families = sorted(set().union(*named))
    chosen = set(random.Random(f"coin {seed}").sample(families, max(1, len(families) // 2)))
    coins = [torch.tensor([name in chosen for name in names]) for names in named]
    return TaskPairs(*(swap_where(batch, coin) for batch, coin in zip(pairs, coins, strict=True)))


def _family(tokens: list[int], tokenizer: Tokenizer) -> str:
    """Return the indentation of the prompt's second line, and its first word where that opens a block."""
    lines = tokenizer.decode(tokens).split("\n")
    second = lines[1] if len(lines) > 1 else ""
    word = second.split(maxsplit=1)[0] if second.strip() else ""
    return f"{len(second) - len(second.lstrip())} {word if word in ('if', 'for', 'while') else ''}"


def swap_where(batch: PairBatch, coin: Bool[Tensor, " n_pairs"]) -> PairBatch:
    """Return the batch with the two prompts of the marked pairs exchanged, so that each is asked for the other's answer."""
    rows = torch.arange(len(batch.last)).view(2, -1)
    rows = torch.where(coin.cpu(), rows.flip(0), rows).flatten().to(batch.last.device)
    return replace(batch, tokens=batch.tokens[rows], last=batch.last[rows])


@torch.no_grad()
def random_weights(model: Transformer, *, seed: int) -> Transformer:
    """Return a model whose weight matrices and biases have the same values, shuffled; gains, sinks and bigram table stay."""
    shuffled = deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in shuffled.named_parameters():
        if name.endswith(("weight", "bias")):
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return shuffled


def means_on_sample(model: Transformer, sample: Int[Tensor, "n_rows pos"]) -> Means:
    """Return a model's means over a sample of pretraining tokens."""
    ahead = torch.cat([sample, sample[:, :1]], dim=1).long()  # as for pretraining: the last token of a row is only a target
    return measure_means(model, _Once(ahead), n_tokens=sample.numel())


class _Once:
    """A sample as one batch."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens

    def next_batch(self) -> Tensor:
        return self.tokens
