"""A circuit on one prompt as circuit-tracer's graph: one node for every node of the circuit and every token at which it says
something, one link for everything that it passes on, so that circuit-tracer's frontend opens it.

All numbers are of the circuit's own run on the prompt (passed.py).
Rows (`layer`) are kinds of sites, six to a layer of the model. Copies of one node at several tokens are a group, and so are
nodes that the circuit's notes take together; labels are the notes', too.
Schema: circuit_tracer/frontend/graph_models.py of safety-research/circuit-tracer.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import torch

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.question import encode_question
from sparse_circuits.interop.passed import LOGIT, TOKEN, At, Run, all_passed, most_influential, row_number, run_on
from sparse_circuits.model import Node
from sparse_circuits.run import read_json, replacing
from sparse_circuits.tasks.encode import EncodedPair

SCAN = "sparse_circuits"
METADATA_FILE = "graph-metadata.json"
N_PINNED = 200
"""Nodes that the frontend draws as a subgraph, at most."""
SERVER = "http://localhost:8041"
"""Where `circuit-tracer start-server` listens."""


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
        UserError: there are no answers, the circuit cannot score them, or they do not follow the prompt at a token's end.
    """
    circuit.question(prompt, answers=answers)  # refuses what `run` would
    question = encode_question(prompt, answers or circuit.task.answers, circuit.tokenizer)
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
    run = run_on(circuit, question)
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


def _row(circuit: Circuit, node: Node) -> str:
    return "E" if node.site == TOKEN else str(row_number(circuit, node))


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
