"""One held-out pair of a circuit's task, in the circuit and in its whole model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sparse_circuits.circuits.spec import example_pairs
from sparse_circuits.errors import UserError
from sparse_circuits.model import record
from sparse_circuits.report.graph import EMBED
from sparse_circuits.report.pairs import packed_attention
from sparse_circuits.report.server.live import Place, Proceed, answer_odds, changed_sides, node_values
from sparse_circuits.tasks.encode import collate


@dataclass(frozen=True)
class SidesOfPair:
    """The probabilities of the right answers: of the positive prompt's, and of the negative prompt's."""

    model: list[float] | None
    circuit: list[float]


@dataclass(frozen=True)
class ShownPair:
    """A pair as the page shows it; wherever there are two, the positive prompt's comes first."""

    prompts: list[str]
    tokens: list[list[str]]
    answers: list[str]
    probabilities: SidesOfPair
    activations: dict[str, list[list[float]]]
    """What every node of the circuit holds in the circuit, by prompt, token by token; and the embedding, as `embed[channel]`,
    in the channels that the circuit reads."""
    attention: list[dict[str, Any]]
    """Where its heads look in the circuit: `attention` of pairs.py."""


@torch.no_grad()
def show_pair(place: Place, index: int, *, proceed: Proceed = lambda: None) -> ShownPair:
    """Return a held-out pair of the circuit's card, with what model and circuit make of it.

    Args:
        place: with a circuit.
        index: which pair, from 0.
        proceed: see `Proceed`.

    Raises:
        UserError: the task is not one of the project's own, so that its pairs are not known, or it has no such pair.
    """
    circuit, tokenizer = place.circuit, place.tokenizer
    spec, n_ctx = circuit.task, circuit.model.config.n_ctx
    pairs = example_pairs(spec, tokenizer, n_pairs=spec.n_held_out_pairs, max_tokens=n_ctx)
    if not pairs:
        raise UserError(f"The pairs of {spec.name} are not in the circuit's file: type a prompt instead.")
    if not 0 <= index < len(pairs):
        raise UserError(f"{spec.name} has held-out pairs 0 to {len(pairs) - 1}: there is no {index}.")
    pair = pairs[index]
    batch = collate([pair], tokenizer, scoring=spec.scoring).to(circuit.model.embed.weight.device)
    whole, part = changed_sides(place)
    odds = [side and answer_odds(side, batch, proceed=proceed).tolist() for side in (whole, part)]
    in_model, in_circuit = [both and [both[0], 1 - both[1]] for both in odds]
    proceed()
    nodes = {**circuit.nodes, EMBED: sorted({link.channel for link in circuit.embedding_links()})}
    values = record(part.model, batch.tokens, circuit.nodes, taps=part.taps) | {EMBED: part.model.embed(batch.tokens)}
    sides = [node_values({site: value[row] for site, value in values.items()}, nodes) for row in (0, 1)]
    proceed()
    return ShownPair(
        prompts=[tokenizer.decode(prompt) for prompt in pair[:2]],
        tokens=[[tokenizer.token(each) for each in prompt] for prompt in pair[:2]],
        answers=[tokenizer.token(pair.positive_answer), tokenizer.token(pair.negative_answer)],
        probabilities=SidesOfPair(in_model, in_circuit),
        activations={node: [side[node] for side in sides] for node in sides[0]},
        attention=packed_attention(circuit, batch),
    )
