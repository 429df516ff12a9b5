"""LoRA factors of many finetunes of one base, side by side, to be trained together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparse_circuits.diffs.factors import Factors
from sparse_circuits.diffs.maps import block_maps
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.model.dense import Dense


class LoraBank(nn.Module):
    """One LoRA a finetune on every linear map of a model's blocks; delta W = up @ down / rank.

    Args:
        model: the base.
        ranks: of every finetune; those below the largest are filled up with zeros, which stay zero.
        seeds: of every finetune's first factors; None: its number.
        bound: up is drawn from U(-bound, bound); None: sqrt(6 / (rank n_out)). down begins at zero.

    Raises:
        UserError: there is no finetune, a rank is below 1, or there are not as many seeds as ranks.

    Source: Goel et al. 2025's code, whose scale of 1 / rank makes factors of different ranks comparable.
    """

    def __init__(
        self, model: Dense, *, ranks: Sequence[int], seeds: Sequence[int] | None = None, bound: float | None = None
    ) -> None:
        super().__init__()
        if not ranks:
            raise UserError("There is no finetune to train: give at least one rank.")
        for rank in ranks:
            check_counts({"rank": rank}, "rank")
        seeds = range(len(ranks)) if seeds is None else seeds
        if len(seeds) != len(ranks):
            raise UserError(f"{len(ranks)} ranks and {len(seeds)} seeds were given: give one of each a finetune.")
        self.ranks, self.names = list(ranks), list(block_maps(model))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.ups, self.downs = nn.ParameterList(), nn.ParameterList()
        for module, n_out, n_in, _ in block_maps(model).values():
            up = torch.zeros(len(ranks), n_out, max(ranks))
            for own, rank, generator in zip(up, ranks, generators, strict=True):
                limit = math.sqrt(6 / (rank * n_out)) if bound is None else bound
                own[:, :rank] = (2 * torch.rand(n_out, rank, generator=generator) - 1) * limit
            down = torch.zeros(len(ranks), max(ranks), n_in)
            device = module.weight.device
            self.ups.append(nn.Parameter(up.to(device)))
            self.downs.append(nn.Parameter(down.to(device)))

    def factors(self) -> dict[str, Factors]:
        """Return the factors, the scale in `up`, by the names of the weights."""
        scale = self._scale()
        return {name: Factors(up * scale, down) for name, up, down in zip(self.names, self.ups, self.downs, strict=True)}

    @torch.no_grad()
    def diffs(self, *, base: str, about: Sequence[dict]) -> list[WeightDiff]:
        """Return every finetune as a diff of its own rank.

        Args:
            base: hash or name of the base.
            about: labels, one dict a finetune.
        """
        scale, found = self._scale(), []
        for number, (rank, own) in enumerate(zip(self.ranks, about, strict=True)):
            changes = {
                name: LowRank((up * scale)[number, :, :rank].clone(), down[number, :rank].clone())
                for name, up, down in zip(self.names, self.ups, self.downs, strict=True)
            }
            found.append(WeightDiff(changes, base, {"rank": rank, **own}))
        return found

    def _scale(self) -> Tensor:
        return 1 / torch.tensor(self.ranks, device=self.ups[0].device).view(-1, 1, 1)
