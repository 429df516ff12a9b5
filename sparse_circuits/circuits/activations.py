"""What sites hold at the tokens of a task's prompts, padding left out."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.margin import PROMPTS_AT_ONCE
from sparse_circuits.model import Transformer, record
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import PairBatch


@torch.no_grad()
def prompt_activations(
    model: Transformer, batch: PairBatch, sites: str | Iterable[str], *, taps: Taps | None = None
) -> dict[str, Float[Tensor, "n_tokens width"]]:
    """Return the values of the sites that match at every token of every prompt, prompt after prompt.

    Args:
        model: the transformer.
        batch: whose prompts to read, each up to where its answer is read.
        sites: names or shell-style patterns.
        taps: changes to make on the way; tapped sites are recorded as changed.

    Raises:
        UserError: a pattern matches no site.
    """
    sites = [sites] if isinstance(sites, str) else list(sites)
    parts: dict[str, list[Tensor]] = {}
    for tokens, last in zip(batch.tokens.split(PROMPTS_AT_ONCE), batch.last.split(PROMPTS_AT_ONCE), strict=True):
        is_prompt = torch.arange(tokens.shape[1], device=tokens.device) <= last.unsqueeze(1)
        for site, value in record(model, tokens, sites, taps=taps).items():
            parts.setdefault(site, []).append(value[is_prompt])
    return {site: torch.cat(values) for site, values in parts.items()}
