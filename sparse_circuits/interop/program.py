"""A circuit as a Python program that needs numpy alone (the pieces are in `template.py`, the numbers in `constants.py`).

The program's text holds every node and the weight of every edge, and computes with those; whoever changes one there changes the
answer. It is made for the circuit at hand: sublayers that the circuit keeps nothing of are constants, and steps that its model
does not have (positions, a bigram table) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sparse_circuits.circuits import Circuit
from sparse_circuits.errors import UserError
from sparse_circuits.interop import template
from sparse_circuits.interop.about import about, shown
from sparse_circuits.interop.answers import Question, question
from sparse_circuits.interop.constants import Constants, constants, written
from sparse_circuits.interop.layout import WIDTH, fill, parts_of, table
from sparse_circuits.model import Positions, site_width
from sparse_circuits.model.config import Activation, ModelConfig
from sparse_circuits.model.norm import EPS
from sparse_circuits.model.sites import FINAL
from sparse_circuits.tasks import Scoring

MAX_LINES = 300
MAX_TOKENS_IN_TEXT = 16
"""With more answer tokens than this, the weights to their logits are in the .npz."""

GIVEN = "differs from prompt to prompt"
FUNCTIONS = {"attn": "attention", "mlp": "mlp"}
ACTIVATIONS = {Activation.gelu: template.GELU, Activation.relu: template.RELU}


class Program(NamedTuple):
    """A program."""

    text: str
    """Python."""
    constants: Constants
    """The arrays that it reads from the .npz of its name."""


def make_program(circuit: Circuit, *, name: str) -> Program:
    """Return the program `name` of a circuit, with lines of their own for the edges into each node if there is room.

    Raises:
        UserError: it would be longer than 300 lines.
    """
    asked, tokens = question(circuit), _tokens(circuit)
    arrays = constants(circuit, tokens)
    unembed = arrays.pop("unembed") if len(tokens) <= MAX_TOKENS_IN_TEXT else None
    for packed in (False, True):
        text = "".join(_pieces(circuit, asked, tokens, unembed, name=name, packed=packed))
        if (n_lines := text.count("\n")) <= MAX_LINES:
            return Program(text, arrays)
    raise UserError(
        f"The program of {circuit.task.name} would have {n_lines} lines for its {len(circuit.edges)} edges, and the limit is "
        f"{MAX_LINES}: extract a smaller circuit with a higher target_loss, or export this one as json."
    )


def _tokens(circuit: Circuit) -> list[int]:
    """Return the ids whose logits the program computes."""
    ids = circuit.task.answer_ids
    return list(range(circuit.model.d_vocab)) if ids is None else ids


def _pieces(
    circuit: Circuit, asked: Question, tokens: list[int], unembed: np.ndarray | None, *, name: str, packed: bool
) -> Iterator[str]:
    config, calibration = circuit.model.config, circuit.calibration
    complement = circuit.task.scoring is Scoring.complement
    yield template.HEAD.substitute(
        about=about(circuit, asked, name=name),
        shape=f"{circuit.model.d_vocab}, {config.n_ctx}, {config.heads}, {config.d_head}",
        eps=EPS,
        calibration=f"{calibration.scale}, {calibration.shift}",
        survivors=_survivors(config),
        nodes=table({f'"{site}"': parts_of("[", channels, "]") for site, channels in circuit.nodes.items()}, packed=packed),
        edges=table(_edges(circuit), packed=packed),
        answers=_answers(circuit, asked),
        unembed="" if unembed is None else f"UNEMBED = {table(_unembed(circuit, tokens, unembed), packed=packed)}\n",
    )
    is_beside = config.positions is Positions.concatenated
    yield template.SITES.substitute(
        beside=", beside it the positions" if is_beside else "", positions=template.POSITIONS if is_beside else ""
    )
    yield from (template.ATTENTION, ACTIVATIONS[config.activation], template.MLP)
    logits = template.LOGITS_FROM_CONSTANTS if unembed is None else template.LOGITS_FROM_TEXT
    has_bigram = circuit.model.bigram is not None
    column = "" if unembed is None else ", column"
    yield logits.substitute(
        bigram_about=" and the current token" if has_bigram else "",
        bigram=f' + CONSTANTS["bigram"][token{column}]' if has_bigram else "",
    )
    yield template.ANSWER.substitute(
        against="every other token" if complement else "the negative one",
        competitors=template.COMPETITORS if complement else "",
        walk="\n".join(f"    {line}" for line in _walk(circuit)),
    )


def _survivors(config: ModelConfig) -> str:
    counts = {kind: config.survivors(kind, site_width(config, f"0.{kind}")) for kind in config.fractions()}
    return "\n".join(["{", *fill((f'"{kind}": {count}' for kind, count in counts.items()), indent="    "), "}"])


def _edges(circuit: Circuit) -> dict[str, list[str]]:
    """Return for each node that reads others the parts of a dict of its weights."""
    dtype = np.dtype(str(circuit.model.embed.weight.dtype).removeprefix("torch."))
    read: dict[str, list[str]] = {}
    for edge in circuit.edges:
        read.setdefault(f'"{edge.target}"', []).append(f'"{edge.source}": {dtype.type(edge.weight)!s}')
    return {target: parts_of("{", weights, "}") for target, weights in read.items()}


def _unembed(circuit: Circuit, tokens: list[int], weights: np.ndarray) -> dict[str, list[str]]:
    """Return for each token the parts of a dict from final nodes to the weights that move its logit."""

    def moved(column: np.ndarray) -> Iterator[str]:
        pairs = zip(circuit.nodes.get(FINAL, []), column, strict=True)
        return (f"{node}: {weight!s}" for node, weight in pairs if weight)

    return {str(token): parts_of("{", moved(column), "}") for token, column in zip(tokens, weights.T, strict=True)}


def _answers(circuit: Circuit, asked: Question) -> str:
    """Return the statements that say which tokens are the answers."""
    others = "every other token" if circuit.task.scoring is Scoring.complement else GIVEN
    sides = (("POSITIVE", asked.positive, GIVEN), ("NEGATIVE", asked.negative, others))
    return "\n".join(_answer(name, ids, shown(circuit, ids) or default) for name, ids, default in sides)


def _answer(name: str, ids: list[int], note: str) -> str:
    line = f"{name} = {ids}  # {note}"
    return line if len(line) <= WIDTH else "\n".join([f"{name} = [  # {note}", *fill(map(str, ids), indent="    "), "]"])


def _walk(circuit: Circuit) -> Iterator[str]:
    """Yield the statements that carry the residual stream from the embedding to the end."""
    added = ' + CONSTANTS["positions"][: len(ids)]' if circuit.model.config.positions is Positions.added else ""
    yield f'stream = CONSTANTS["embed"][list(ids)].astype(float){added}'
    for sublayer, is_written in written(circuit).items():
        layer, kind = sublayer.split(".")
        if is_written:
            yield f"stream = stream + {FUNCTIONS[kind]}({layer}, stream)"
        else:
            yield f'stream = stream + CONSTANTS["{sublayer}.resid_delta mean"]  # the circuit has no node there'
