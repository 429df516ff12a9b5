"""Circuits of random sparse models: every weight, bias, gain, sink and mean is some number."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import chain

import torch

from sparse_circuits.circuits import Card, Circuit, Means
from sparse_circuits.circuits.card import Check, Interchange, NodeFidelity
from sparse_circuits.circuits.edges import Edge, circuit_edges
from sparse_circuits.circuits.nodes import channels_of, count_nodes
from sparse_circuits.circuits.spec import TaskSpec
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.model import ModelConfig, Node, Transformer, node_sites, site_width
from sparse_circuits.tasks import TASKS, PairBatch, Scoring, Split, encode_pairs
from sparse_circuits.tasks.calibrate import Calibration
from sparse_circuits.tasks.encode import EncodedPair, collate, prefix_sets

CONFIG = ModelConfig(n_layers=2, d_model=16, n_ctx=12, d_head=4, d_mlp=24)
ANSWERS = ('")\n', "')\n")


@cache
def tokenizer() -> Tokenizer:
    """Return one in which several tokens start with either quote."""
    return Tokenizer.train(["x\") y\" z\"] ') '] w'", "a\") b') c\"] d']", "e\") f') g\"] h']"], d_vocab=266)


def made(
    config: ModelConfig = CONFIG,
    *,
    scoring: Scoring = Scoring.pair,
    kept: float = 0.5,
    without: tuple[str, ...] = (),
    dtype: torch.dtype = torch.float64,
) -> Circuit:
    """Return a circuit of a random model, for a task that is not among the project's own.

    Args:
        config: the model's shape.
        scoring: of its task.
        kept: share of nodes in the circuit.
        without: sites that it keeps no node of.
        dtype: of weights and means.
    """
    ids = None if scoring is Scoring.complement else sorted(chain(*answer_sets(scoring)))
    task = spec("made_up", 'a "summary" with \\n """quotes"""', scoring, answers=ANSWERS, answer_ids=ids)
    return random_circuit(config, tokenizer(), task, kept=kept, without=without, dtype=dtype)


def of_task(name: str) -> Circuit:
    """Return a circuit of a random model for one of the project's tasks, whose text is cut into bytes."""
    task, by_bytes = TASKS[name], Tokenizer.train(["ab"], d_vocab=257)
    pairs = encode_pairs(task, by_bytes, split=Split.held_out, n_pairs=64, seed=0)
    ids = None if task.scoring is Scoring.complement else sorted({*pairs.answers[pairs.answers >= 0].tolist()})
    about = spec(name, task.summary, task.scoring, answers=None, answer_ids=ids)
    return random_circuit(replace(CONFIG, n_ctx=256), by_bytes, about, kept=0.3)


def spec(
    name: str, summary: str, scoring: Scoring, *, answers: tuple[str, str] | None, answer_ids: list[int] | None
) -> TaskSpec:
    counts = dict.fromkeys(("n_train_pairs", "n_validation_pairs", "n_held_out_pairs"), 1)
    return TaskSpec(name=name, summary=summary, scoring=scoring, seed=0, answers=answers, answer_ids=answer_ids, **counts)


def random_circuit(
    config: ModelConfig,
    tokenizer: Tokenizer,
    task: TaskSpec,
    *,
    kept: float = 0.5,
    without: tuple[str, ...] = (),
    dtype: torch.dtype = torch.float64,
) -> Circuit:
    """Return some nodes of a random model, and all its weights between them."""
    torch.manual_seed(0)
    model = Transformer(config, d_vocab=tokenizer.d_vocab).to(dtype).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, 0.5)
        if parameter.ndim == 2:
            parameter.mul_(torch.rand_like(parameter) < 0.2)
    sites = {site: 0.5 * torch.randn(site_width(config, site), dtype=dtype) for site in node_sites(config)}
    nodes = channels_of(torch.rand(count_nodes(config)) < kept, config)
    nodes = {site: channels for site, channels in nodes.items() if site not in without}
    edges = circuit_edges(model, nodes)
    # one token against all others has log odds near -5
    calibration = Calibration(0.7, 3.5 if task.scoring is Scoring.complement else -0.2)
    return Circuit(model, tokenizer, Means(sites, 1, "abc"), nodes, edges, calibration, task, card(nodes, edges), recipe={})


def card(nodes: dict[str, list[int]], edges: list[Edge]) -> Card:
    """Return a card with some number for everything."""
    names = [str(Node(site, channel)) for site, channels in nodes.items() for channel in channels]
    losses = {"model": 0.0123, "circuit": 0.0456, "circuit_raw": 0.0789, "necessity": 1.2345}
    return Card(
        n_nodes=len(names),
        n_edges=len(edges),
        nodes_per_site={site: len(channels) for site, channels in nodes.items()},
        edges_per_link={},
        target_loss=0.15,
        n_pairs=8,
        checks=[Check(name, f"about {name}", loss, loss, loss, 1.0, 1, at_most=1.0) for name, loss in losses.items()],
        without_nodes={name: 0.5 + place for place, name in enumerate(names)},
        without_edges={str(edge): 0.25 + place for place, edge in enumerate(edges)},
        fidelity=[NodeFidelity(name, 0.9, 0.1 + place) for place, name in enumerate(names)],
        pattern_error={"1.attn": 0.5},
        interchange=Interchange(0.9, 0.8, 0.7, 0.6),
    )


def answer_ids() -> tuple[int, int]:
    return tuple(tokenizer().encode(text)[0] for text in ANSWERS)


def answer_sets(scoring: Scoring) -> tuple[list[int], list[int]]:
    positive, negative = answer_ids()
    return prefix_sets(positive, negative, tokenizer()) if scoring is Scoring.prefix_set else ([positive], [negative])


def cut(circuit: Circuit) -> Circuit:
    """Return the circuit with every third edge cut."""
    return replace(circuit, edges=[edge for place, edge in enumerate(circuit.edges) if place % 3])


def prompts(circuit: Circuit, *, n_pairs: int = 60, seed: int = 1) -> PairBatch:
    """Return random prompts of all lengths."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n_tokens: int) -> tuple[int, ...]:
        return tuple(torch.randint(circuit.model.d_vocab, (n_tokens,), generator=generator).tolist())

    lengths = [1 + place % circuit.model.config.n_ctx for place in range(n_pairs)]
    pairs = [EncodedPair(draw(length), draw(length), *answer_ids()) for length in lengths]
    return collate(pairs, circuit.tokenizer, scoring=circuit.task.scoring)


def as_lists(batch: PairBatch) -> list[list[int]]:
    """Return the prompts as token ids, without padding."""
    return [row[: end + 1] for row, end in zip(batch.tokens.tolist(), batch.last.tolist(), strict=True)]
