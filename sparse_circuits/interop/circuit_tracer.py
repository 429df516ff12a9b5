"""A circuit on one prompt as circuit-tracer's graph: one node for every node of the circuit and every token at which it says
something, one link for everything that it passes on, so that circuit-tracer's frontend opens it.

All numbers are of the circuit's own run on the prompt. With v(t) a node's value at token t, a link carries what its source adds
to its target there:
- w v(t) along an edge of weight w, and pattern(t, t') w v(t') along one that attention takes from token t' to t;
- gain v(t) / rms(t) along the residual stream into a norm, and so through the last norm to an answer's logit;
- from a query or a key what it adds to what its head writes at t by moving the pattern, to first order: with s(t, t') its
  part of the score and u(t') what the head would write having looked at t' alone, pattern(t, t') s(t, t') (u(t') - written(t)).
Rows (`layer`) are kinds of sites, six to a layer of the model. Copies of one node at several tokens are a group, and so are
nodes that the circuit's notes take together; labels are the notes', too.
Schema: circuit_tracer/frontend/graph_models.py of safety-research/circuit-tracer.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.question import encode_question
from sparse_circuits.errors import UserError
from sparse_circuits.kernels.sink_attention.reference import attention_pattern
from sparse_circuits.model import Node, record
from sparse_circuits.model.sites import FINAL, FINAL_RMS
from sparse_circuits.run import read_json, replacing
from sparse_circuits.tasks import Scoring
from sparse_circuits.tasks.encode import EncodedPair, collate

ROWS = {"attn.act_in": 0, "attn.q": 1, "attn.k": 1, "attn.v": 1, "attn.resid_delta": 2}
ROWS |= {"mlp.act_in": 3, "mlp.post_act": 4, "mlp.resid_delta": 5}
ROWS_A_LAYER = 6
TOKEN, LOGIT = "token", "logit"
SCAN = "sparse_circuits"
METADATA_FILE = "graph-metadata.json"
N_PINNED = 200
"""Nodes that the frontend draws as a subgraph, at most."""
SERVER = "http://localhost:8041"
"""Where `circuit-tracer start-server` listens."""


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


def write_circuit_tracer(
    circuit: Circuit, path: Path, *, prompt: str, answers: tuple[str, str] | None = None, n_links: int = 2000
) -> list[Path]:
    """Write a circuit on a prompt for circuit-tracer, and list it among the folder's graphs.

    Args:
        circuit: the circuit.
        path: the file, in the folder of graphs that `circuit-tracer start-server --graph_file_dir` is given.
        prompt: text up to the answer.
        answers: the positive and the negative one; None: those of the task, where all its pairs have the same two.
        n_links: most influential links, at most, that are kept.

    Returns:
        The graph's file and the list.

    Raises:
        UserError: there are no answers, or they do not follow the prompt at a token's end.
    """
    answers = answers or circuit.task.answers
    if answers is None:
        raise UserError(f"The answers of {circuit.task.name} differ from pair to pair: give answers=(positive, negative).")
    question = encode_question(prompt, answers, circuit.tokenizer)
    graph = circuit_tracer_graph(circuit, question, slug=Path(path).stem, n_links=n_links)
    files = circuit_tracer_files(graph, Path(path))
    for file, content in files.items():
        with replacing(file) as temporary:
            temporary.write_bytes(content)
    return list(files)


def circuit_tracer_files(graph: dict[str, Any], path: Path) -> dict[Path, bytes]:
    """Return what a graph's file and the list of its folder's graphs are to hold."""
    listed = path.with_name(METADATA_FILE)
    others = read_json(listed)["graphs"] if listed.exists() else []
    graphs = [each for each in others if each["slug"] != graph["metadata"]["slug"]] + [graph["metadata"]]
    return {path: json.dumps(graph).encode(), listed: json.dumps({"graphs": graphs}, indent=1).encode()}


@torch.no_grad()
def circuit_tracer_graph(circuit: Circuit, question: EncodedPair, *, slug: str, n_links: int = 2000) -> dict[str, Any]:
    """Return a circuit on a pair's positive prompt as circuit-tracer's graph, as JSON values.

    Args:
        circuit: the circuit.
        question: the prompt and both answers' tokens.
        slug: the graph's name.
        n_links: most influential links, at most, that are kept.
    """
    run = _run(circuit, question)
    passed = most_influential(circuit, list(all_passed(circuit, run)), n_links=n_links)
    ends = dict.fromkeys(end for link in passed for end in (link.source, link.target))
    ends |= {At(Node(LOGIT, each), len(run.ids) - 1): None for each in run.answers}
    token = circuit.tokenizer.token
    ids = [_id(circuit, at) for at in ends]
    return {
        "metadata": {
            "slug": slug,
            "scan": SCAN,
            "transcoder_list": [],
            "prompt_tokens": [_visible(token(each)) for each in run.ids],
            "prompt": circuit.tokenizer.decode(run.ids),
            "node_threshold": None,
        },
        "qParams": {
            "pinnedIds": ids[:N_PINNED],
            "supernodes": _groups(circuit, ends),
            "linkType": "both",
            "clickedId": _id(circuit, At(Node(LOGIT, run.answers[0]), len(run.ids) - 1)),
            "sg_pos": "",
        },
        "nodes": [_node(circuit, at, run) for at in ends],
        "links": [
            {"source": _id(circuit, source), "target": _id(circuit, target), "weight": weight}
            for source, target, weight in passed
        ],
    }


def frontend_address(path: Path) -> str:
    """Return where circuit-tracer's frontend, started on the graph's folder, shows it by its groups.

    The frontend takes groups from the address alone; without them it shows every node's copies one by one.

    Args:
        path: a graph's file.
    """
    graph = read_json(path)
    asked = {"slug": graph["metadata"]["slug"], "supernodes": json.dumps(graph["qParams"]["supernodes"])}
    return f"{SERVER}/index.html?{urlencode(asked)}"


def _groups(circuit: Circuit, ends: Iterable[At]) -> list[list[str]]:
    """Return groups as a name and the ids in it: those of the circuit's notes, then the copies of every other node."""
    name_of = {node: group.name for group in circuit.notes.groups for node in group.nodes}
    groups: dict[str, list[str]] = defaultdict(list)
    for at in ends:
        groups[name_of.get(str(at.node)) or _label(circuit, at.node)].append(_id(circuit, at))
    return [[name, *ids] for name, ids in groups.items() if len(ids) > 1]


def _run(circuit: Circuit, question: EncodedPair) -> Run:
    batch = collate([question], circuit.tokenizer, scoring=Scoring.pair).to(circuit.model.embed.weight.device)
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
    rows = {at: _number(circuit, at.node) for at in into}
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


def _number(circuit: Circuit, node: Node) -> int:
    """Return the number of a node's row, from below; tokens stand at -1."""
    top = ROWS_A_LAYER * circuit.model.config.n_layers
    ends = {TOKEN: -1, FINAL: top, LOGIT: top + 1}
    if node.site in ends:
        return ends[node.site]
    layer, _, kind = node.site.partition(".")
    return ROWS_A_LAYER * int(layer) + ROWS[kind]


def _row(circuit: Circuit, node: Node) -> str:
    return "E" if node.site == TOKEN else str(_number(circuit, node))


def _feature(circuit: Circuit, node: Node) -> int:
    """Return a number of a node that is its own within its row: queries, keys and values share one."""
    place = {"k": 1, "v": 2}.get(node.site[-1], 0) if ".attn." in node.site and len(node.site.split(".")[-1]) == 1 else 0
    return node.channel + place * circuit.model.config.d_attn


def _id(circuit: Circuit, at: At) -> str:
    return f"{_row(circuit, at.node)}_{_feature(circuit, at.node)}_{at.pos}"


def _node(circuit: Circuit, at: At, run: Run) -> dict[str, Any]:
    node, pos = at
    shared = {"node_id": _id(circuit, at), "layer": _row(circuit, node), "ctx_idx": pos, "run_idx": 0, "reverse_ctx_idx": 0}
    shared |= {"token_prob": 0.0, "is_target_logit": False, "influence": None, "activation": None}
    shared["clerp"] = _label(circuit, node)
    if node.site == TOKEN:
        own = {"feature": pos, "feature_type": "embedding"}
        return {**shared, **own, "jsNodeId": f"E_{node.channel}-{pos}"}
    if node.site == LOGIT:
        place = run.answers.index(node.channel)
        own = {"feature": node.channel, "feature_type": "logit", "token_prob": run.probabilities[place]}
        own |= {"is_target_logit": place == 0, "clerp": f"{shared['clerp']} (p={run.probabilities[place]:.3f})"}
        return {**shared, **own, "jsNodeId": f"L_{node.channel}-{pos}"}
    feature = _feature(circuit, node)
    own = {"feature": feature, "feature_type": "cross layer transcoder"}
    own |= {"activation": run.values[node.site][pos, node.channel].item(), "jsNodeId": f"{shared['layer']}_{feature}-0"}
    return {**shared, **own}


def _label(circuit: Circuit, node: Node) -> str:
    """Return what a node is called: by the circuit's notes, a token or an answer by its text."""
    if node.site in (TOKEN, LOGIT):
        return f'{"Emb:" if node.site == TOKEN else "Output"} "{_visible(circuit.tokenizer.token(node.channel))}"'
    label = circuit.notes.labels.get(str(node))
    return f"{label} ({node})" if label else str(node)


def _visible(text: str) -> str:
    return text.replace("\n", "⏎").replace("\t", "→").replace("\r", "↵")
