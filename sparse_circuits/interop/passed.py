"""What a circuit passes on from node to node, token by token, in its own run on a prompt.

With v(t) a node's value at token t, a link carries what its source adds to its target there:
- w v(t) along an edge of weight w, and pattern(t, t') w v(t') along one that attention takes from token t' to t;
- gain v(t) / rms(t) along the residual stream into a norm, and so through the last norm to an answer's logit;
- from a query or a key what it adds to what its head writes at t by moving the pattern, to first order: with s(t, t') its
  part of the score and u(t') what the head would write having looked at t' alone, pattern(t, t') s(t, t') (u(t') - written(t)).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.kernels.sink_attention.reference import attention_pattern
from sparse_circuits.model import Node, record
from sparse_circuits.model.sites import FINAL, FINAL_RMS
from sparse_circuits.tasks.encode import EncodedPair, collate

ROWS = {"attn.act_in": 0, "attn.q": 1, "attn.k": 1, "attn.v": 1, "attn.resid_delta": 2}
ROWS |= {"mlp.act_in": 3, "mlp.post_act": 4, "mlp.resid_delta": 5}
ROWS_A_LAYER = 6
TOKEN, LOGIT = "token", "logit"


class At(NamedTuple):
    """A node of the circuit, a token or an answer's logit, at one token of the prompt."""

    node: Node
    pos: int


class Passed(NamedTuple):
    """What one node adds to another."""

    source: At
    target: At
    weight: float


class Run(NamedTuple):
    """A circuit's run on one prompt."""

    ids: list[int]
    answers: tuple[int, int]
    probabilities: tuple[float, float]
    values: dict[str, Float[Tensor, "pos width"]]
    """Of every site of the circuit, of the queries, keys and values of its heads, and of the norms' denominators."""


@torch.no_grad()
def run_on(circuit: Circuit, question: EncodedPair) -> Run:
    """Run a circuit on a pair's positive prompt."""
    batch = collate([question], circuit.tokenizer, scoring=circuit.task.scoring).to(circuit.model.embed.weight.device)
    positive = circuit.margins(batch)[0].double().sigmoid().item()
    model = circuit.model
    layers = {site.split(".")[0] for site in circuit.nodes if ".attn." in site}
    norms = {f"{site.rsplit('.', 1)[0]}.rms" for site in circuit.nodes if site.endswith("act_in")}
    sites = {*circuit.nodes, *(f"{layer}.attn.{name}" for layer in layers for name in "qkv"), *norms, FINAL, FINAL_RMS}
    tokens = torch.tensor([question.positive], device=model.embed.weight.device)
    values = record(model, tokens, sorted(sites), taps=circuit.taps())
    return Run(
        list(question.positive),
        (question.positive_answer, question.negative_answer),
        (positive, 1 - positive),
        {site: value[0].cpu() for site, value in values.items()},
    )


def all_passed(circuit: Circuit, run: Run) -> Iterator[Passed]:
    """Yield everything that a node adds to another, at every token."""
    values, n_pos = run.values, len(run.ids)
    attended: dict[tuple[str, int], list[Edge]] = defaultdict(list)  # by the layer's site and the target's channel and head
    for edge in circuit.edges:
        if edge.source.site.endswith(".v"):
            head = edge.source.channel // circuit.model.config.d_head
            attended[edge.target.site, head].append(edge)
        else:
            for pos, value in enumerate(values[edge.source.site][:, edge.source.channel].tolist()):
                yield Passed(At(edge.source, pos), At(edge.target, pos), edge.weight * value)
    for (site, head), edges in attended.items():
        yield from _through_attention(circuit, run, site.split(".")[0], head, edges)
    for source, target, gain in circuit.residual_links():
        for pos, value in enumerate(values[source.site][:, source.channel].tolist()):
            yield Passed(At(source, pos), At(target, pos), gain * value / _rms(run, target.site, pos))
    yield from _from_tokens(circuit, run)
    last = n_pos - 1
    for channel_to in circuit.unembedding_links(run.answers):
        value = values[FINAL][last, channel_to.channel].item() / values[FINAL_RMS][last, 0].item()
        source, target = Node(FINAL, channel_to.channel), Node(LOGIT, channel_to.token)
        yield Passed(At(source, last), At(target, last), channel_to.weight * value)


def _rms(run: Run, site: str, pos: int) -> float:
    """Return what the norm in front of a site divides by; the last one stands behind its site."""
    return 1.0 if site == FINAL else run.values[f"{site.rsplit('.', 1)[0]}.rms"][pos, 0].item()


def _from_tokens(circuit: Circuit, run: Run) -> Iterator[Passed]:
    gains = {sublayer.reader.site: sublayer.reader.norm.gain.tolist() for _, sublayer in circuit.model.sublayers()}
    gains[FINAL] = [1.0] * circuit.model.config.d_model
    weights = {(link.token, link.channel): link.weight for link in circuit.embedding_links()}
    for site, channels in circuit.nodes.items():
        for channel in channels if site in gains else ():
            for pos, token in enumerate(run.ids):
                if weight := weights.get((token, channel)):
                    added = weight * gains[site][channel] / _rms(run, site, pos)
                    yield Passed(At(Node(TOKEN, token), pos), At(Node(site, channel), pos), added)


def _through_attention(circuit: Circuit, run: Run, layer: str, head: int, edges: Sequence[Edge]) -> Iterator[Passed]:
    """Yield what one head carries from its values, and what its queries and keys add by moving its pattern."""
    d_head, attn = circuit.model.config.d_head, circuit.model.layers[int(layer)].attn
    own = slice(head * d_head, (head + 1) * d_head)
    q, k = (run.values[f"{layer}.attn.{name}"][:, own] for name in "qk")
    sink = None if attn.sink is None else attn.sink[head : head + 1].cpu()
    pattern = attention_pattern(q[None, None], k[None, None], sink)[0, 0]
    by_target: dict[Node, list[Edge]] = defaultdict(list)
    for edge in edges:
        by_target[edge.target].append(edge)
        values = run.values[edge.source.site][:, edge.source.channel]
        for query, key in pattern.nonzero().tolist():
            weight = (pattern[query, key] * edge.weight * values[key]).item()
            yield Passed(At(edge.source, key), At(edge.target, query), weight)
    for name in "qk":
        for channel in circuit.nodes.get(f"{layer}.attn.{name}", ()):
            if not own.start <= channel < own.stop:
                continue
            place = channel - own.start
            score = rearrange(q[:, place], "query -> query 1") * k[:, place] / d_head**0.5
            for target, theirs in by_target.items():
                alone = sum(edge.weight * run.values[edge.source.site][:, edge.source.channel] for edge in theirs)
                moved = pattern * score * (alone - rearrange(pattern @ alone, "query -> query 1"))
                source = Node(f"{layer}.attn.{name}", channel)
                if name == "q":
                    for query, weight in enumerate(moved.sum(1).tolist()):
                        yield Passed(At(source, query), At(target, query), weight)
                else:
                    for query, key in pattern.nonzero().tolist():
                        yield Passed(At(source, key), At(target, query), moved[query, key].item())


def most_influential(circuit: Circuit, passed: Sequence[Passed], *, n_links: int) -> list[Passed]:
    """Return the links that matter most for the answers, and from which a way leads to them.

    An answer's logit matters 1; of what a node matters, each link into it has its share of the links' absolute weights.
    """
    into: dict[At, list[Passed]] = defaultdict(list)
    for link in passed:
        into[link.target].append(link)
    rows = {at: row_number(circuit, at.node) for at in into}
    matters: dict[At, float] = defaultdict(float) | {at: 1.0 for at in into if at.node.site == LOGIT}
    shares: list[tuple[float, Passed]] = []
    for at in sorted(into, key=lambda at: -rows[at]):  # links lead to rows above
        total = sum(abs(link.weight) for link in into[at])
        for link in into[at]:
            share = matters[at] * abs(link.weight) / total if total else 0.0
            matters[link.source] += share
            shares.append((share, link))
    shares.sort(key=lambda each: -each[0])
    return leading_to_answers([link for share, link in shares[:n_links] if share])


def leading_to_answers(passed: Sequence[Passed]) -> list[Passed]:
    """Return the links from which a way leads to an answer's logit."""
    into: dict[At, list[Passed]] = defaultdict(list)
    for link in passed:
        if link.weight:
            into[link.target].append(link)
    found, waiting = [], [at for at in into if at.node.site == LOGIT]
    seen = set(waiting)
    while waiting:
        for link in into[waiting.pop()]:
            found.append(link)
            if link.source not in seen:
                seen.add(link.source)
                waiting.append(link.source)
    return found


def row_number(circuit: Circuit, node: Node) -> int:
    """Return the number of a node's row, from below; tokens stand at -1."""
    top = ROWS_A_LAYER * circuit.model.config.n_layers
    ends = {TOKEN: -1, FINAL: top, LOGIT: top + 1}
    if node.site in ends:
        return ends[node.site]
    layer, _, kind = node.site.partition(".")
    return ROWS_A_LAYER * int(layer) + ROWS[kind]
