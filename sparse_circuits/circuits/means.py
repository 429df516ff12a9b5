"""The mean activation of every node over pretraining tokens: what an ablated node is frozen at.

Source: Gao et al. 2025, appendix A.5. Computed once per model, in one streamed pass, and stored beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.nodes import by_site, count_nodes
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer, node_sites
from sparse_circuits.model.store import model_hash, read_tensors, write_tensors
from sparse_circuits.training.loop import Batches

MEANS_FILE = "means.safetensors"
SAMPLE_TOKENS = 16_384


class Means(NamedTuple):
    """Mean activations of one model."""

    sites: dict[str, Float[Tensor, " width"]]
    """For every node site the mean of each channel."""
    n_tokens: int
    """Tokens that the means were taken over."""
    model_hash: str
    """The model they belong to."""
    sample: Int[Tensor, "n_rows pos"] | None = None
    """Some of these tokens, for what has to look at activations themselves; a circuit's file leaves them out."""

    def __call__(self, site: str, value: Float[Tensor, "*rows width"]) -> Float[Tensor, " width"]:
        """Return what stands in for the ablated channels of a site."""
        return self.sites[site].to(value)

    def zeroed(self) -> Means:
        """Return zeros in the place of the means: zero ablation."""
        return self._replace(sites={site: torch.zeros_like(mean) for site, mean in self.sites.items()})


@torch.no_grad()
def measure_means(model: Transformer, batches: Batches, *, n_tokens: int) -> Means:
    """Return each node's mean activation over at least `n_tokens` tokens.

    Args:
        model: the transformer.
        batches: as for pretraining, Int[Tensor, "batch pos_plus_one"]; the last token of a row is only a target.
        n_tokens: tokens to average over; whole batches are read.
    """
    if n_tokens < 1:
        raise UserError(f"Means over {n_tokens} tokens do not exist: give at least 1.")
    row = torch.zeros(count_nodes(model.config), dtype=torch.float64, device=model.embed.weight.device)
    sums = by_site(row, model.config)

    def add(site: str) -> Callable[[Tensor], Tensor]:
        def tap(value: Tensor) -> Tensor:
            sums[site].add_(value.flatten(0, 1).sum(0))
            return value

        return tap

    taps = {site: add(site) for site in sums}
    n_seen, sample = 0, []
    while n_seen < n_tokens:
        tokens = batches.next_batch()[:, :-1].to(row.device)
        model.residual(tokens, taps=taps)
        if n_seen < SAMPLE_TOKENS:
            sample.append(tokens.cpu())
        n_seen += tokens.numel()
    means = {site: (total / n_seen).to(model.embed.weight.dtype) for site, total in sums.items()}
    return Means(means, n_seen, model_hash(model), torch.cat(sample).int())


def save_means(means: Means, path: Path) -> None:
    """Write means with their token count and the hash of their model."""
    metadata = {"n_tokens": means.n_tokens, "model_hash": means.model_hash}
    sample = {} if means.sample is None else {"sample": means.sample}
    write_tensors(path, {**means.sites, **sample}, kind="means", metadata=metadata)


def load_means(path: Path, model: Transformer) -> Means:
    """Read the means of a model.

    Raises:
        UserError: the file is damaged, or holds the means of another model.
    """
    tensors, metadata = read_tensors(path, kind="means")
    sites = {site: tensors[site] for site in node_sites(model.config) if site in tensors}
    means = Means(sites, **metadata, sample=tensors.get("sample"))
    check_means(means, model, source=path)
    return means


def load_sample(path: Path) -> dict[str, Int[Tensor, "n_rows pos"]]:
    """Return the sample of pretraining tokens in a file of means, by its model's hash; nothing where there is none.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return {}
    tensors, metadata = read_tensors(path, kind="means")
    return {metadata["model_hash"]: tensors["sample"]} if "sample" in tensors else {}


def check_means(means: Means, model: Transformer, *, source: object = "the means") -> None:
    """Refuse means of another model.

    Raises:
        UserError: they were measured in a model with other weights.
    """
    if means.model_hash != model_hash(model):
        raise UserError(f"{source}: these means belong to another model; measure them again for this one.")
