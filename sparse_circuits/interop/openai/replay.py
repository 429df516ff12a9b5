"""Running a published circuit again: our losses beside theirs, and what could not be reproduced and why.

The file names the nodes. The rest is ours: exact edge weights from the checkpoint, means over text that the caller gives, a
calibration fitted to the file's own prompts (on which it is also scored, so that it has every advantage).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.card import Card, check
from sparse_circuits.circuits.correlation import correlation
from sparse_circuits.circuits.evidence.fidelity import interchange, node_fidelity, pattern_errors
from sparse_circuits.circuits.margin import answer_margins, score
from sparse_circuits.circuits.means import Means, check_means
from sparse_circuits.circuits.nodes import list_nodes
from sparse_circuits.circuits.side_by_side import side_by_side
from sparse_circuits.circuits.spec import TaskSpec
from sparse_circuits.circuits.subgraph import Subgraph, subgraph_taps
from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.interop.openai.viz_data import Published, prompts_of, read_viz_data
from sparse_circuits.model import Node, Transformer
from sparse_circuits.tasks import PairBatch, Scoring
from sparse_circuits.tasks.calibrate import calibrate

NOT_PUBLISHED = (
    "mean activations are not published: they were measured anew, on other text",
    "logit scale and shift are not published: they were fitted anew, to the file's own prompts",
    "which edges were kept is not published: all weights between the nodes are",
)


@dataclass(frozen=True)
class Replay:
    """A published circuit, run again; losses are two-way cross-entropies in nats, mean over both sides."""

    n_nodes: int
    n_edges: int
    n_pairs: int
    their_loss: float
    """Of the unpruned model, as published."""
    our_loss: float
    their_pruned_loss: float
    """Of the circuit, as published."""
    our_pruned_loss: float
    """With our means, before calibration."""
    our_calibrated_loss: float
    effects_correlation: float | None
    """Over nodes: what ablating one adds to the loss of the circuit, theirs against ours; None where either does not vary."""
    caveats: tuple[str, ...]
    """What could not be reproduced, and why."""


def replay(
    path: Path,
    model: Transformer,
    tokenizer: Tokenizer,
    means: Means,
    *,
    answers: tuple[str, str],
    name: str,
) -> tuple[Circuit, Replay]:
    """Make a published circuit one of ours, and run it on the prompts that were published with it.

    Args:
        path: its viz_data.pt.
        model: the model that it was found in.
        tokenizer: the model's.
        means: the model's, over text of the caller's choice.
        answers: what follows the prompts of the first half and of the second, one token each.
        name: of the task.

    Raises:
        UserError: the file is damaged or of another model, an answer is not one token, or the means are another model's.
    """
    check_means(means, model)
    published = read_viz_data(path, model.config)
    batch, n_doubtful = prompts_of(published, _answer_ids(answers, tokenizer))
    if batch.tokens.shape[1] > model.config.n_ctx or int(batch.tokens.max()) >= model.d_vocab:
        raise UserError(f"{path} has prompts that this model cannot read: give the model that the circuit was found in.")
    batch = batch.to(model.embed.weight.device)
    circuit = _circuit(published, model, tokenizer, means, batch, answers=answers, name=name, file=Path(path).name)
    return circuit, _report(published, circuit, n_doubtful=n_doubtful)


def _circuit(
    published: Published,
    model: Transformer,
    tokenizer: Tokenizer,
    means: Means,
    batch: PairBatch,
    *,
    answers: tuple[str, str],
    name: str,
    file: str,
) -> Circuit:
    """Return the published nodes, with all the model's weights between them, as a circuit with what its card can say."""
    subgraph = Subgraph.whole(model, published.nodes)
    taps = subgraph_taps(model, subgraph, means)
    with torch.no_grad():
        whole, pruned = answer_margins(model, batch), answer_margins(model, batch, taps=taps)
    calibration = calibrate(pruned)
    card = Card(
        n_nodes=sum(map(len, subgraph.nodes.values())),
        n_edges=len(subgraph.edges),
        nodes_per_site={site: len(channels) for site, channels in subgraph.nodes.items()},
        edges_per_link={},
        target_loss=published.pruned_loss,
        n_pairs=batch.n_pairs,
        checks=[
            check("model", "nothing ablated", whole[None]),
            check("circuit", "everything outside ablated, calibrated on these very prompts", calibration(pruned)[None]),
            check("circuit_raw", "the same before calibration", pruned[None]),
        ],
        without_nodes=_without_each(model, batch, subgraph, means),
        without_edges={},
        fidelity=node_fidelity(model, batch, subgraph.nodes, taps),
        pattern_error=pattern_errors(model, batch, subgraph.nodes, taps),
        interchange=interchange(model, batch, subgraph.nodes, taps, calibration),
    )
    spec = TaskSpec(
        name=name,
        summary=f"{answers[0]!r} or {answers[1]!r}, a circuit published by OpenAI",
        scoring=Scoring.pair,
        seed=0,
        n_train_pairs=0,
        n_validation_pairs=batch.n_pairs,
        n_held_out_pairs=0,
        answers=answers,
        answer_ids=sorted(set(batch.answers.flatten().tolist())),
    )
    return Circuit(model, tokenizer, means, subgraph.nodes, subgraph.edges, calibration, spec, card, {"imported": file})


def _report(published: Published, circuit: Circuit, *, n_doubtful: int) -> Replay:
    """Return our losses beside theirs, and what could not be reproduced."""
    card, caveats = circuit.card, NOT_PUBLISHED
    if n_doubtful:
        said = f"{n_doubtful} pairs end at different places: id 0 is padding and a token, so the later end was taken for both"
        caveats = (*caveats, said)
    return Replay(
        n_nodes=card.n_nodes,
        n_edges=card.n_edges,
        n_pairs=card.n_pairs,
        their_loss=published.loss,
        our_loss=card["model"].loss,
        their_pruned_loss=published.pruned_loss,
        our_pruned_loss=card["circuit_raw"].loss,
        our_calibrated_loss=card["circuit"].loss,
        effects_correlation=_compare(published, card.without_nodes),
        caveats=caveats,
    )


def replay_text(found: Replay) -> str:
    """Return our losses beside theirs, and what could not be reproduced, a line each."""
    effects = "not defined" if found.effects_correlation is None else f"{found.effects_correlation:.3f}"
    return "\n".join(
        [
            f"{found.n_nodes} nodes, {found.n_edges} edges, {found.n_pairs} pairs; losses in nats, theirs halved",
            f"whole model   theirs {found.their_loss:.4f}   ours {found.our_loss:.4f}",
            f"circuit       theirs {found.their_pruned_loss:.4f}   ours {found.our_pruned_loss:.4f}"
            f" ({found.our_calibrated_loss:.4f} calibrated)",
            f"effects of ablating one node, correlation of theirs with ours: {effects}",
            *found.caveats,
        ]
    )


def _answer_ids(answers: tuple[str, str], tokenizer: Tokenizer) -> tuple[int, int]:
    ids = [tokenizer.encode(answer) for answer in answers]
    for answer, each in zip(answers, ids, strict=True):
        if len(each) != 1:
            raise UserError(f"{answer!r} is {len(each)} tokens of this tokenizer: give answers of one token each.")
    return ids[0][0], ids[1][0]


def _without_each(model: Transformer, batch: PairBatch, subgraph: Subgraph, means: Means) -> dict[str, float]:
    """Return the loss of the circuit, uncalibrated, without each of its nodes."""
    nodes = list_nodes(subgraph.nodes)

    def margins(node: Node) -> Float[Tensor, " n_prompts"]:
        rest = {site: [c for c in channels if Node(site, c) != node] for site, channels in subgraph.nodes.items()}
        rest = Subgraph({site: channels for site, channels in rest.items() if channels})
        return answer_margins(model, batch, taps=subgraph_taps(model, rest, means))

    found = islice(side_by_side(margins, nodes, device=batch.tokens.device), len(nodes))
    return {str(node): score(margin).loss for node, margin in zip(nodes, found, strict=True)}


def _compare(published: Published, ours: dict[str, float]) -> float | None:
    """Return how alike the effects of ablating single nodes are; a constant less does not matter to a correlation."""
    theirs = [published.node_losses[Node.parse(name)] for name in ours]
    return correlation(torch.tensor(theirs), torch.tensor(list(ours.values())))
