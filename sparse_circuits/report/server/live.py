"""What a prompt does in a model and in its circuit, as they are or changed (change.py).

The numbers are those of the same calls from Python: next tokens of `model(tokens, taps=...)`, answers of `Circuit.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits import Circuit, Means
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer, record
from sparse_circuits.model.sites import FINAL
from sparse_circuits.model.taps import Taps
from sparse_circuits.report.server.change import Intervention, circuit_taps, find_edges, intervention_taps, model_taps
from sparse_circuits.tasks import PairBatch
from sparse_circuits.tasks.calibrate import Calibration

N_LIKELY = 10
"""Tokens listed, the likeliest first."""

Proceed = Callable[[], None]
"""Called before every forward pass; raises where nobody waits for it any more."""


@dataclass(frozen=True)
class Place:
    """Where prompts run: a whole model, a circuit in it, or, where its model is not at hand, a circuit alone."""

    tokenizer: Tokenizer
    means: Means | None
    """None where nothing was extracted yet."""
    model: Transformer | None
    """The whole model."""
    circuit: Circuit | None
    """In the whole model, where there is one."""


class Side(NamedTuple):
    """The whole model, or the circuit, after the changes."""

    model: Transformer
    taps: Taps
    calibration: Calibration
    """The circuit's; of the whole model none."""


class Pass(NamedTuple):
    """One forward pass."""

    logits: Float[Tensor, " d_vocab"]
    """Of the token that follows."""
    sites: dict[str, Float[Tensor, "pos width"]]


@dataclass(frozen=True)
class Likely:
    """A next token."""

    token: str
    probability: float


@dataclass(frozen=True)
class Answers:
    """Probabilities of the positive and the negative answer, which sum to 1; the circuit's are calibrated."""

    model: list[float] | None
    circuit: list[float]


@dataclass(frozen=True)
class Outcome:
    """What a prompt did."""

    tokens: list[str]
    model: list[Likely] | None
    """The whole model's next tokens; None where it is not at hand."""
    circuit: list[Likely] | None
    """The circuit's; of a circuit without its model, among the tokens that its file can score."""
    answers: Answers | None
    why_answers: str | None
    """Why there are none."""
    activations: dict[str, list[float]] | None
    """What every node of the circuit held in the circuit's pass, token by token."""


@torch.no_grad()
def run_prompt(
    place: Place,
    prompt: str,
    *,
    interventions: Sequence[Intervention] = (),
    cuts: Sequence[tuple[str, str]] = (),
    answers: tuple[str, str] | None = None,
    proceed: Proceed = lambda: None,
) -> Outcome:
    """Run a prompt in a model and its circuit, both changed alike.

    Args:
        place: the model, the circuit, or both.
        prompt: text of at most n_ctx tokens.
        interventions: changes of nodes.
        cuts: edges of the circuit, each as source and target.
        answers: the positive and the negative answer; None: those of the circuit's task.
        proceed: see `Proceed`.

    Raises:
        UserError: the prompt is empty or too long, or there is no such node or edge.
    """
    whole, part = changed_sides(place, interventions, cuts)
    tokens = encode_prompt(prompt, place.tokenizer, n_ctx=(whole or part).model.config.n_ctx)
    in_model = whole and next_token(whole, tokens, proceed=proceed)
    in_circuit = part and next_token(part, tokens, sites=place.circuit.nodes, proceed=proceed)
    found, why = _answers(place, prompt, answers, whole=whole, part=part, proceed=proceed)
    return Outcome(
        tokens=[place.tokenizer.token(each) for each in tokens.tolist()],
        model=in_model and likeliest(in_model.logits.softmax(-1), place.tokenizer),
        circuit=in_circuit and _scored(in_circuit.logits, place),
        answers=found,
        why_answers=why,
        activations=in_circuit and node_values(in_circuit.sites, place.circuit.nodes),
    )


def changed_sides(
    place: Place, interventions: Sequence[Intervention] = (), cuts: Sequence[tuple[str, str]] = ()
) -> tuple[Side | None, Side | None]:
    """Return the whole model and the circuit after the same changes, where they are at hand; errors as of `run_prompt`."""
    circuit, model = place.circuit, place.model
    config = (model or circuit.model).config
    changes, cut = intervention_taps(interventions, config, place.means), find_edges(cuts, circuit)
    whole = model and Side(model, model_taps(model, changes, cut, circuit), Calibration())
    part = circuit and Side(circuit.model, circuit_taps(circuit, changes, cut), circuit.calibration)
    return whole, part


def encode_prompt(prompt: str, tokenizer: Tokenizer, *, n_ctx: int) -> Int[Tensor, " pos"]:
    """Return a prompt's tokens.

    Raises:
        UserError: it is empty, or longer than a model reads.
    """
    ids = tokenizer.encode(prompt)
    if not 1 <= len(ids) <= n_ctx:
        raise UserError(f"The prompt has {len(ids):,} tokens, and the model reads 1 to {n_ctx:,}: type another.")
    return torch.tensor(ids)


def next_token(side: Side, tokens: Int[Tensor, " pos"], *, sites: Mapping[str, object] | None = None, proceed: Proceed) -> Pass:
    """Run tokens, and record sites on the way."""
    proceed()
    tokens = tokens.to(side.model.embed.weight.device).unsqueeze(0)
    values = record(side.model, tokens, [*(sites or ()), FINAL], taps=side.taps)
    return Pass(side.model.read_out(values[FINAL], tokens)[0, -1], {site: value[0] for site, value in values.items()})


def likeliest(
    probabilities: Float[Tensor, " n_tokens"], tokenizer: Tokenizer, *, ids: Sequence[int] | None = None
) -> list[Likely]:
    """Return the likeliest tokens; `ids` says which they are, where they are not the whole vocabulary."""
    top = probabilities.topk(min(N_LIKELY, len(probabilities)))
    found = [place if ids is None else ids[place] for place in top.indices.tolist()]
    return [Likely(tokenizer.token(each), probability) for each, probability in zip(found, top.values.tolist(), strict=True)]


def node_values(values: Mapping[str, Float[Tensor, "pos width"]], nodes: Mapping[str, Sequence[int]]) -> dict[str, list[float]]:
    """Return what nodes hold at every token, by their names."""
    return {f"{site}[{each}]": values[site][:, each].tolist() for site, channels in nodes.items() for each in channels}


def answer_odds(side: Side, batch: PairBatch, *, proceed: Proceed) -> Float[Tensor, " n_prompts"]:
    """Return the probability of the positive answer against the negative one, for every prompt of the pairs."""
    proceed()
    return side.calibration(answer_margins(side.model, batch, taps=side.taps)).double().sigmoid()


def _answers(
    place: Place, prompt: str, answers: tuple[str, str] | None, *, whole: Side | None, part: Side | None, proceed: Proceed
) -> tuple[Answers | None, str | None]:
    """Return the probabilities of two answers, or why this prompt has none: a text may end anywhere."""
    if part is None:
        return None, "Answers are those of a circuit's task: choose a circuit."
    try:
        question = place.circuit.question(prompt, answers=answers)
    except UserError as error:
        return None, str(error)
    both = [side and answer_odds(side, question, proceed=proceed)[0].item() for side in (whole, part)]
    in_model, in_circuit = [None if positive is None else [positive, 1 - positive] for positive in both]
    return Answers(in_model, in_circuit), None


def _scored(logits: Tensor, place: Place) -> list[Likely]:
    """Return a circuit's likeliest tokens: without its whole model, among those that its file has the bigram logits of."""
    ids = None if place.model else place.circuit.task.answer_ids
    return likeliest((logits if ids is None else logits[ids]).softmax(-1), place.tokenizer, ids=ids)
