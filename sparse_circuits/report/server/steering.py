"""Steering a run's dense model by one node, with what it takes kept ready."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.bridges.load import Bridged
from sparse_circuits.bridges.steer import directions, steer_along
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node
from sparse_circuits.report.server.change import find_node
from sparse_circuits.report.server.live import Likely, Proceed, encode_prompt, likeliest

STRONGEST = 100.0
"""Multiple of a node's difference: far beyond where a model still answers."""
REFERENCE_TOKENS = 2048
"""Of ordinary text; the first push of a node waits for both models to read it."""


@dataclass(frozen=True)
class Steered:
    """The dense model's next tokens after a prompt."""

    tokens: list[str]
    before: list[Likely]
    after: list[Likely]
    """Steered."""


@dataclass(frozen=True)
class Steering:
    """A bridge, and ordinary text on which the sizes of its streams are measured."""

    bridged: Bridged
    reference: Int[Tensor, "n_rows n_pos"]
    known: dict[Node, Float[Tensor, " d_dense"]] = field(default_factory=dict)
    """Directions of nodes asked for before: each costs a pass of both models over the text."""

    @torch.no_grad()
    def push(self, node: str, from_prompt: str, to_prompt: str, *, strength: float, proceed: Proceed = lambda: None) -> Steered:
        """Steer the dense model; the numbers are those of `steer`, with this text as its reference.

        Args:
            node: at an `act_in` site, as `1.attn.act_in[17]`.
            from_prompt: what the model is shown.
            to_prompt: the counterfactual, of as many tokens.
            strength: 0: not at all, 1: by as much as the node differs between the prompts.
            proceed: called between passes; raises where nobody waits for the next.

        Raises:
            UserError: the bridge does not lead from the node, or the prompts are empty, too long or not equally long.
        """
        if not abs(strength) <= STRONGEST:
            raise UserError(f"strength is {strength:g}: give one from -{STRONGEST:g} to {STRONGEST:g}.")
        tokenizer, n_ctx = self.bridged.tokenizer, min(self.bridged.sparse.config.n_ctx, self.bridged.dense.config.n_ctx)
        presented, _ = (encode_prompt(prompt, tokenizer, n_ctx=n_ctx) for prompt in (from_prompt, to_prompt))
        along = self._along(find_node(node, self.bridged.sparse.config), proceed)
        answers = []
        for each in (0.0, strength):
            proceed()
            answers.append(steer_along(self.bridged, along, from_prompt, to_prompt, strength=each))
        before, after = (likeliest(each, tokenizer) for each in answers)
        return Steered([tokenizer.token(each) for each in presented.tolist()], before, after)

    def _along(self, node: Node, proceed: Proceed) -> dict[Node, Tensor]:
        if node not in self.known:
            proceed()
            self.known.update(directions(self.bridged, [node], self.reference))
        return {node: self.known[node]}
