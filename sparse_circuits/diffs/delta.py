"""Delta embeddings: what a finetune does to a few probe prompts, as one vector a finetune.

    v(finetune) = mean over probes of  state(probe; base + finetune) - state(probe; base)

The state is the stream behind the last norm, at the probe's last token (Delta Activations); or the logits there; or any other
site and token. No finetune's vector depends on another's, nothing is trained, and a finetune of any kind has one.

Source: Xu et al. 2025 (arXiv 2509.04442), sections 3 and 4. Their probes are five paraphrases of one instruction template; ours
(PROBES) say the same in our words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparse_circuits.diffs.apply import applied_by_row, groups
from sparse_circuits.diffs.ask import ask
from sparse_circuits.diffs.lessons import Lesson, answer_loss, collate, filled_up
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.errors import UserError
from sparse_circuits.model.dense import Dense, HuggingFace
from sparse_circuits.model.sites import FINAL

FINAL_NORM, LOGITS = "final_norm", "logits"
PREAMBLES = (
    "Below is an instruction that says what to do. Write a response that does it.",
    "The task below asks for a response. Write one that completes it accurately.",
    "Here is the description of a task. Give a response that meets what it asks for.",
    "The following instruction sets a task. Produce a response that fulfils it.",
    "You receive an instruction and an input. Complete the task as you are asked to.",
)
PROBES = tuple(
    f"{preamble}\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:" for preamble in PREAMBLES
)


class Token(Enum):
    """Which tokens of a probe are read."""

    last = "last"
    first = "first"
    mean = "mean"
    weighted = "weighted"
    """All, token i of n weighted i / (1 + ... + n): Delta Weighted Activations."""


def embed(
    model: Dense,
    diffs: Sequence[WeightDiff],
    probes: Sequence[Sequence[int]],
    *,
    site: str = FINAL_NORM,
    token: Token = Token.last,
    subtract_base: bool = True,
    batch_size: int = 64,
) -> Float[Tensor, "n_diffs width"]:
    """Return the delta embedding of finetunes.

    Args:
        model: the base.
        diffs: its finetunes, of any kind.
        probes: token ids of the prompts.
        site: `final_norm`, the stream behind the last norm; `logits`; or any site of the model, such as `1.resid_mid`.
        token: which of a probe's tokens are read.
        subtract_base: False: the finetune's states as they are, a baseline.
        batch_size: rows of one pass.

    Raises:
        UserError: there is no probe or no diff, a probe is longer than the model reads, or there is no such site.
    """
    weights = _token_weights(probes, token, n_ctx=model.config.n_ctx)
    tokens = filled_up(probes).to(next(model.parameters()).device)

    def mean_state(n_models: int) -> Float[Tensor, "n_models width"]:
        states = read_states(model, tokens.repeat(n_models, 1), site)
        each = torch.einsum("bpw,bp->bw", states, weights.to(states).repeat(n_models, 1))
        return torch.stack([own.mean(0) for own in each.chunk(n_models)])

    found = by_diff(model, diffs, mean_state, at_once=max(1, batch_size // len(probes)))
    return found - mean_state(1) if subtract_base else found


@torch.no_grad()
def by_diff(
    model: Dense, diffs: Sequence[WeightDiff], measure: Callable[[int], Tensor], *, at_once: int
) -> Float[Tensor, "n_diffs width"]:
    """Return what is measured of every finetune, those of low rank several in one pass.

    Args:
        measure: from a number of models, whose rows follow one another in a batch, to one vector each.
        at_once: models of one pass.

    Raises:
        UserError: there is no diff.
    """
    if not diffs:
        raise UserError("The pool is empty: give at least one finetune.")
    found: dict[int, Tensor] = {}
    for group in groups(diffs, at_once=at_once):
        with applied_by_row(model, [diffs[number] for number in group]):
            found |= dict(zip(group, measure(len(group)), strict=True))
    return torch.stack([found[number] for number in range(len(diffs))])


@torch.no_grad()
def read_states(model: Dense, tokens: Int[Tensor, "batch pos"], site: str) -> Float[Tensor, "batch pos width"]:
    """Return the values of a site, of the stream behind the last norm, or the logits, in float32 or wider.

    Raises:
        UserError: there is no such site.
    """
    values: list[Tensor] = []
    if site == LOGITS:
        values.append(model(tokens))
    elif site == FINAL_NORM:
        handle = _last_norm(model).register_forward_hook(lambda _, inputs, output: values.append(output))
        try:
            model(tokens)
        finally:
            handle.remove()
    else:
        model(tokens, taps={site: lambda value: values.append(value) or value})
    return values[-1].to(torch.promote_types(values[-1].dtype, torch.float32))


def delta_meaning(
    model: Dense, diffs: Sequence[WeightDiff], trajectories: Sequence[Lesson], *, batch_size: int = 64
) -> Float[Tensor, "n_diffs n_trajectories"]:
    """Return how much likelier each finetune finds some continuations than its base does: their inverse perplexities.

    The width is that of the trajectories, whatever the base: finetunes of bases that share a vocabulary can be compared.

    Args:
        model: the base.
        diffs: its finetunes.
        trajectories: probes with their continuations, the same for all bases that are compared.
        batch_size: rows of one pass.

    Raises:
        UserError: there is no trajectory or no diff.

    Source: Xu et al. 2025, section 4 (Delta Meaning).
    """
    rows = collate(trajectories, device=next(model.parameters()).device)

    def inverse_perplexity(n_models: int) -> Float[Tensor, "n_models n_trajectories"]:
        logits = model(rows.tokens.repeat(n_models, 1), at=rows.at.repeat(n_models, 1))
        return torch.stack([(-answer_loss(own, rows)).exp() for own in logits.chunk(n_models)])

    found = by_diff(model, diffs, inverse_perplexity, at_once=max(1, batch_size // len(trajectories)))
    with torch.no_grad():
        return found - inverse_perplexity(1)


def draw_trajectories(
    model: Dense, probes: Sequence[Sequence[int]], *, n_each: int = 20, n_tokens: int = 20, seed: int = 0
) -> list[Lesson]:
    """Return continuations of probes as a base draws them at temperature 1."""
    prompts = [list(probe) for probe in probes for _ in range(n_each)]
    said = ask(model, prompts, [None] * len(prompts), n_tokens=n_tokens, temperature=1.0, seed=seed)
    return [Lesson(prompt, answer.tokens) for prompt, answer in zip(prompts, said, strict=True)]


def _token_weights(probes: Sequence[Sequence[int]], token: Token, *, n_ctx: int) -> Float[Tensor, "n_probes pos"]:
    if not probes:
        raise UserError("There is no probe: give at least one prompt.")
    longest = max(len(probe) for probe in probes)
    if not 0 < longest <= n_ctx or not all(probes):
        raise UserError(f"A probe has {longest} tokens and the model reads 1 to {n_ctx}: shorten it.")
    weights = torch.zeros(len(probes), longest)
    for own, probe in zip(weights, probes, strict=True):
        n = len(probe)
        match token:
            case Token.last:
                own[n - 1] = 1
            case Token.first:
                own[0] = 1
            case Token.mean:
                own[:n] = 1 / n
            case Token.weighted:
                own[:n] = torch.arange(1, n + 1) / (n * (n + 1) / 2)
    return weights


def _last_norm(model: Dense) -> nn.Module:
    return model.norm_before(FINAL) if isinstance(model, HuggingFace) else model.norm
