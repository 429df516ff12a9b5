"""What a circuit does on held-out pairs of its task: 16 of them (fewer long ones), both prompts, token by token.

pairs        [{tokens, answers, circuit, model}]
             tokens: one list of places in the payload's `texts` for each prompt, positive first
             answers: the positive and the negative answer, as positions in `nodes`
             circuit, model: for each prompt the probability of its right answer against the other one (the circuit's is
             calibrated)
activations  {circuit, model}, in the circuit's own run and in the whole model, each packed.py's signed rows: one for every
             node but the logits, in the order of `nodes`; columns are the tokens of all positive prompts, pair after
             pair, then of all negative ones. A row of `embed` holds what the embedding writes to the channel.
attention    [{layer, head, shares}] for every head with a node of the circuit, in the circuit's run: packed.py's shares,
             prompt after prompt as above, query after query, for each the keys up to itself and then the sink
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.activations import prompt_activations
from sparse_circuits.circuits.evidence.patterns import attention_patterns, heads_of
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.spec import example_pairs
from sparse_circuits.model import Node, node_sites
from sparse_circuits.model.taps import NO_TAPS, Taps
from sparse_circuits.report.numbers import nine_digits
from sparse_circuits.report.packed import pack_shares, pack_signed
from sparse_circuits.report.texts import Texts
from sparse_circuits.tasks import PairBatch
from sparse_circuits.tasks.encode import EncodedPair, collate

N_PAIRS = 16
N_SHARES = 400_000
"""Attention weights kept of a head: prompts so long that all pairs have more make it fewer pairs."""


def held_out_pairs(circuit: Circuit) -> list[EncodedPair]:
    """Return the first held-out pairs of the circuit's task, at least one; none where it is not one of the project's own."""
    pairs = example_pairs(circuit.task, circuit.tokenizer, n_pairs=N_PAIRS, max_tokens=circuit.model.config.n_ctx)
    n_shares = accumulate(len(pair.positive) ** 2 for pair in pairs)  # of both prompts, each half of a square
    return [pair for number, (pair, n) in enumerate(zip(pairs, n_shares, strict=True)) if number == 0 or n <= N_SHARES]


@torch.no_grad()
def on_pairs(
    circuit: Circuit, pairs: Sequence[EncodedPair], nodes: Sequence[Node], answers: Mapping[int, int], texts: Texts
) -> dict[str, Any]:
    """Return the part of a circuit's payload that speaks of pairs.

    Args:
        circuit: what runs.
        pairs: of its task; with none, the lists are empty and the activations None.
        nodes: whose activations to keep; a site that the model does not have is the embedding's.
        answers: token -> position of its logit in the payload's nodes.
        texts: where tokens' texts go.
    """
    if not pairs:
        return {"pairs": [], "activations": None, "attention": []}
    batch = collate(pairs, circuit.tokenizer, scoring=circuit.task.scoring).to(circuit.model.embed.weight.device)
    margins = {"circuit": circuit.margins(batch), "model": answer_margins(circuit.model, batch)}
    right = {name: _right(margin) for name, margin in margins.items()}
    return {
        "pairs": [
            {
                "tokens": [texts.places(prompt, circuit.tokenizer) for prompt in (pair.positive, pair.negative)],
                "answers": [answers[pair.positive_answer], answers[pair.negative_answer]],
                **{name: [nine_digits(each) for each in sides[number :: len(pairs)]] for name, sides in right.items()},
            }
            for number, pair in enumerate(pairs)
        ],
        "activations": {
            name: pack_signed(_activations(circuit, batch, nodes, taps))
            for name, taps in (("circuit", circuit.taps()), ("model", NO_TAPS))
        },
        "attention": packed_attention(circuit, batch),
    }


def _right(margins: Float[Tensor, " n_prompts"]) -> list[float]:
    """Return the probability of each prompt's own answer: margins favour the positive one."""
    positive, negative = margins.double().sigmoid().chunk(2)
    return [*positive.tolist(), *(1 - negative).tolist()]


def _activations(circuit: Circuit, batch: PairBatch, nodes: Sequence[Node], taps: Taps) -> Float[Tensor, "n_nodes n_tokens"]:
    known = set(node_sites(circuit.model.config))
    sites = list(dict.fromkeys(node.site for node in nodes if node.site in known))
    values = prompt_activations(circuit.model, batch, sites, taps=taps) if sites else {}
    is_prompt = torch.arange(batch.tokens.shape[1], device=batch.last.device) <= batch.last.unsqueeze(1)
    embedded = circuit.model.embed(batch.tokens[is_prompt])
    rows = [values.get(node.site, embedded)[:, node.channel] for node in nodes]
    return torch.stack(rows) if rows else embedded.new_zeros(0, len(embedded))


def packed_attention(circuit: Circuit, batch: PairBatch) -> list[dict[str, Any]]:
    """Return where a circuit's heads look on both prompts of pairs: `attention`, above."""
    heads = heads_of(circuit.nodes, circuit.model.config)
    if not heads:
        return []
    patterns = attention_patterns(circuit.model, batch.tokens, heads, taps=circuit.taps())
    return [
        {"layer": head.layer, "head": head.head, "shares": pack_shares(_until_last(patterns[head], batch.last.tolist()))}
        for head in heads
    ]


def _until_last(pattern: Float[Tensor, "batch query key_or_sink"], last: Sequence[int]) -> Float[Tensor, " n"]:
    rows = [
        part
        for prompt, end in zip(pattern, last, strict=True)
        for query in range(end + 1)
        for part in (prompt[query, : query + 1], prompt[query, -1:])
    ]
    return torch.cat(rows)
