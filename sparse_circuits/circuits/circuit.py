"""A circuit: the nodes and edges that a sparse model needs for one task, as a value that runs.

It holds everything that its own prediction takes: the model (which is sparse, hence small), the means that ablated nodes
stand at, the calibration, the tokenizer. So its file works in another folder and another process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.card import Card
from sparse_circuits.circuits.describe import describe
from sparse_circuits.circuits.edges import Edge, TokenLink, embedding_links, residual_links, unembedding_links
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import list_nodes
from sparse_circuits.circuits.notes import Notes
from sparse_circuits.circuits.question import encode_question
from sparse_circuits.circuits.spec import TaskSpec
from sparse_circuits.circuits.store import read_circuit, write_circuit
from sparse_circuits.circuits.subgraph import Merge, Subgraph, subgraph_taps
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import PairBatch
from sparse_circuits.tasks.calibrate import Calibration
from sparse_circuits.tasks.encode import collate


class Prediction(NamedTuple):
    """The probabilities that a circuit gives to two answers, after calibration; they sum to 1."""

    positive: float
    negative: float


@dataclass(frozen=True)
class Circuit:
    """A circuit in its model."""

    model: Transformer
    """The model it was found in; from a file, without the bigram logits of tokens that are no answers."""
    tokenizer: Tokenizer
    means: Means
    """What nodes outside the circuit stand at."""
    nodes: dict[str, list[int]]
    """Channels of every site that has any, in firing order."""
    edges: list[Edge]
    """Weights between these nodes, exact (where nodes were merged, sums); others are cut, on the reader's side."""
    calibration: Calibration
    task: TaskSpec
    card: Card
    """Its numbers."""
    recipe: dict[str, Any]
    """The configuration that found it, as plain values."""
    merges: list[Merge] = field(default_factory=list)
    """Nodes that others write for: their weights are part of these nodes' edges."""
    notes: Notes = field(default_factory=Notes)
    """What a reader calls its nodes."""

    @property
    def model_hash(self) -> str:
        """Hash of the whole model that it was found in."""
        return self.means.model_hash

    def taps(self) -> Taps:
        """Return the taps that leave only this circuit of its model."""
        return subgraph_taps(self.model, Subgraph(self.nodes, self.edges), self.means)

    @torch.no_grad()
    def margins(self, batch: PairBatch) -> Float[Tensor, " n_prompts"]:
        """Return the circuit's calibrated log odds of the positive against the negative answer."""
        return self.calibration(answer_margins(self.model, batch, taps=self._taps))

    def run(self, prompt: str, *, answers: tuple[str, str] | None = None) -> Prediction:
        """Return the circuit's own prediction of how a prompt goes on.

        Args:
            prompt: text up to the answer.
            answers: the positive and the negative answer, in the task's order, since the calibration's shift favours one; by
                default those of the task, where all its pairs have the same two.

        Raises:
            UserError: no answers where the task has several, or answers that this circuit cannot score.
        """
        positive = self.margins(self.question(prompt, answers=answers))[0].double().sigmoid().item()
        return Prediction(positive, 1 - positive)

    def question(self, prompt: str, *, answers: tuple[str, str] | None = None) -> PairBatch:
        """Return a prompt and its two answers as the pair that `run` scores; arguments and errors as there."""
        answers = answers or self.task.answers
        if answers is None:
            raise UserError(f"The answers of {self.task.name} differ from pair to pair: give answers=(positive, negative).")
        question = encode_question(prompt, answers, self.tokenizer)
        batch = collate([question], self.tokenizer, scoring=self.task.scoring).to(self.model.embed.weight.device)
        self._check_answers(batch)
        return batch

    def _check_answers(self, batch: PairBatch) -> None:
        if self.task.answer_ids is None:
            return
        unknown = set(batch.answers[batch.answers >= 0].tolist()) - set(self.task.answer_ids)
        if unknown:
            raise UserError(
                f"A circuit of {self.task.name} scores answers of this task only, not "
                f"{self.tokenizer.token(min(unknown))!r}: use one of "
                f"{', '.join(repr(self.tokenizer.token(each)) for each in self.task.answer_ids[:8])}."
            )

    @cached_property
    def _taps(self) -> Taps:
        return self.taps()

    def residual_links(self) -> list[Edge]:
        """Return which nodes write to a channel of the residual stream that a later node reads."""
        return residual_links(self.model, self.nodes)

    def embedding_links(self) -> list[TokenLink]:
        """Return the nonzero embedding weights of the channels that the circuit reads."""
        return embedding_links(self.model, self.nodes)

    def unembedding_links(self, tokens: Sequence[int] | None = None) -> list[TokenLink]:
        """Return the weights from the circuit to the logits of `tokens`; without them, of the task's answers."""
        ids = tokens if tokens is not None else self.task.answer_ids
        return unembedding_links(self.model, self.nodes, range(self.model.d_vocab) if ids is None else ids)

    def describe(self) -> str:
        """Return the circuit as text: numbers, nodes by site, edges with their weights."""
        return describe(self)

    def with_notes(self, notes: Notes) -> Circuit:
        """Return the same circuit with these labels and groups in the place of its own.

        Raises:
            UserError: they name a node that the circuit does not have.
        """
        notes.check([str(node) for node in list_nodes(self.nodes)])
        return replace(self, notes=notes)

    def save(self, path: Path) -> None:
        """Write the circuit to one file, atomically."""
        write_circuit(self, path)

    @classmethod
    def load(cls, path: Path) -> Circuit:
        """Read a circuit's file.

        Raises:
            UserError: the file is missing, damaged, or no circuit.
        """
        return cls(**read_circuit(path))
