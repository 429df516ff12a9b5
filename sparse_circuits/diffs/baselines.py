"""What delta embeddings are compared with: vectors made of the weights, or of what is said.

Factors themselves are a weak opponent: B A = (B G)(G^-1 A) for any G, and every finetune's first factors are drawn anew. Their
product has neither fault. Both are here, and masks of the product, and the words that come out.

Source: Xu et al. 2025, table 1 (flattened adapters, masks, output embeddings); the product is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.diffs.ask import ask
from sparse_circuits.diffs.weight_diff import Change, WeightDiff, check_kind
from sparse_circuits.errors import UserError
from sparse_circuits.model.dense import Dense


def flattened_factors(diffs: Sequence[WeightDiff]) -> Float[Tensor, "n_diffs n_entries"]:
    """Return all factors of each finetune in one row.

    Raises:
        UserError: a diff has no factors, or ranks differ.
    """
    for diff in diffs:
        if not diff.is_low_rank:
            raise UserError("A full finetune has no factors to flatten: compare products instead.")
    rows = [torch.cat([part.flatten() for change in diff.changes.values() for part in vars(change).values()]) for diff in diffs]
    if len({row.numel() for row in rows}) > 1:
        raise UserError("Factors of different ranks have rows of different lengths: compare products instead.")
    return torch.stack(rows)


def flattened_products(diffs: Sequence[WeightDiff]) -> Float[Tensor, "n_diffs n_entries"]:
    """Return the changes of all weights that any finetune changes in one row each, with zeros where one leaves them alone.

    Raises:
        UserError: a weight is changed by factors in one diff, without in another.
    """
    by_name: dict[str, list[Change]] = {}
    for diff in diffs:
        for name, change in diff.changes.items():
            by_name.setdefault(name, []).append(change)
    for name, changes in by_name.items():
        check_kind(name, changes)
    shapes = {name: changes[0].shape for name, changes in by_name.items()}

    def row(diff: WeightDiff) -> Tensor:
        parts = [diff.changes[name].matrix() if name in diff.changes else torch.zeros(shape) for name, shape in shapes.items()]
        return torch.cat([part.flatten().float() for part in parts])

    return torch.stack([row(diff) for diff in diffs])


def salient_masks(diffs: Sequence[WeightDiff], *, share: float = 0.01) -> Float[Tensor, "n_diffs n_entries"]:
    """Return 1 where a finetune changes a weight most, among this share of all, 0 elsewhere."""
    changes = flattened_products(diffs).abs()
    n_kept = max(1, int(share * changes.shape[1]))
    return torch.zeros_like(changes).scatter_(1, changes.topk(n_kept, dim=1).indices, 1.0)


def bags_of_words(
    model: Dense, diffs: Sequence[WeightDiff], probes: Sequence[Sequence[int]], *, n_tokens: int = 20, seed: int = 0
) -> Float[Tensor, "n_diffs d_vocab"]:
    """Return how often each finetune says each token, drawn at temperature 1, in its answers to probes."""
    counts = torch.zeros(len(diffs), model.d_vocab)
    for number, probe in enumerate(probes):
        said = ask(model, [probe] * len(diffs), list(diffs), n_tokens=n_tokens, temperature=1.0, seed=seed + number)
        for own, answer in zip(counts, said, strict=True):
            own += torch.bincount(torch.tensor(answer.tokens), minlength=model.d_vocab)
    return counts
