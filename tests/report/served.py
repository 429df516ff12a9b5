"""A run to be served, for the browser's tests, and what its page has to show: `python -m tests.report.served WHAT FOLDER`

write     writes the run: two circuits in their model, a bridge, a corpus; and prints what direct calls answer, as JSON
notes     prints the labels and groups in the file of the circuit that is used
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.bridges import Bridge, pair_sites
from sparse_circuits.bridges.bridge import BRIDGE_FILE, save_bridge
from sparse_circuits.bridges.load import load_bridged
from sparse_circuits.bridges.steer import steer
from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.data import DataConfig, SourceConfig, SourceKind, prepare
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.model import ModelConfig, Node, Transformer
from sparse_circuits.model.store import model_hash
from sparse_circuits.plain import to_plain
from sparse_circuits.report.server.steering import REFERENCE_TOKENS
from sparse_circuits.run import write_json
from sparse_circuits.subject import circuit_path, validation_rows
from sparse_circuits.tasks import TASKS, Split
from sparse_circuits.tasks.encode import collate, draw_pairs
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.export import export_model, load_trained
from tests.report.small import MODEL, loud_circuit, small_run, small_tokenizer

TASK, PROMPT = "single_double_quote", "print('a"
NODE = Node("1.attn.v", 2)
EDGE = (Node("0.mlp.act_in", 5), Node("0.mlp.post_act", 7))
PAIR = 20
"""Beyond those of the file."""
STEERED, FROM, TO, STRENGTH = "1.attn.act_in[5]", "x = 'a", 'x = "a', 2.0


def write(run: Path) -> dict[str, Any]:
    """Write the run, and return what direct calls on its files answer."""
    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    circuit = loud_circuit(tokenizer, TASK, n_held_out_pairs=40)
    other = loud_circuit(tokenizer, "with_as", model=circuit.model)
    other = replace(other, task=replace(other.task, answers=None))  # they differ from pair to pair
    small_run(run, tokenizer, [circuit, other])
    export_model(circuit.model, tokenizer, run)
    write_corpus(run)
    write_bridge(run, circuit.model, tokenizer)
    return expected(run)


def write_corpus(run: Path) -> None:
    """Write ordinary text, and say in run.json and data.json that the run was trained on it."""
    folder = run.resolve() / "corpus"
    folder.mkdir()
    for number in range(80):
        (folder / f"{number}.py").write_text(f"def function_{number}(value):\n    return value + {number}\n" * 8)
    source = SourceConfig(SourceKind.files, paths=[str(folder / "*.py")])
    data = DataConfig(sources=[source], d_vocab=257, validation_fraction=0.5, folder=folder / "cache")
    write_json(run / "run.json", {"config": to_plain(TrainConfig(model=MODEL, data=data)), "versions": {}, "git": "abc"})
    write_json(run / "data.json", prepare(data).manifest)


def write_bridge(run: Path, sparse: Transformer, tokenizer: Tokenizer) -> None:
    """Write a dense model and a bridge to it, at random, with weights so large that a push is seen."""
    dense = Transformer(ModelConfig(n_layers=2, d_model=8, d_head=4, n_ctx=256, abs_topk=1.0), d_vocab=tokenizer.d_vocab)
    dense.requires_grad_(False)
    for weight in dense.parameters():
        weight.add_(0.5 * torch.randn_like(weight))
    export_model(dense, tokenizer, run / "dense")
    bridge = Bridge(pair_sites(sparse, dense), d_sparse=16, d_dense=8, encoder_fraction=0.5)
    bridge.requires_grad_(False).sizes.fill_(1.0)
    for weight in bridge.parameters():
        weight.mul_(20)
    save_bridge(bridge, run / BRIDGE_FILE, sparse_hash=model_hash(sparse), dense=str(run.resolve() / "dense"))


@torch.no_grad()
def expected(run: Path) -> dict[str, Any]:
    """Return what the page has to show, from Python's calls on the files alone."""
    circuit, model = Circuit.load(circuit_path(run, TASK)), load_trained(run).model
    nodes = {site: [each for each in channels if Node(site, each) != NODE] for site, channels in circuit.nodes.items()}
    ablated = replace(circuit, nodes=nodes, edges=[edge for edge in circuit.edges if NODE not in edge[:2]])
    cut = replace(circuit, edges=[edge for edge in circuit.edges if edge[:2] != EDGE])
    at_mean = at_value(NODE, circuit.means.sites[NODE.site][NODE.channel])
    return {
        "task": TASK,
        "prompt": PROMPT,
        "node": str(NODE),
        "edge": [str(end) for end in EDGE],
        "plain": {"model": odds(circuit, model, {}), "circuit": list(circuit.run(PROMPT))},
        "ablated": {"model": odds(circuit, model, {NODE.site: at_mean}), "circuit": list(ablated.run(PROMPT))},
        "cut": {"circuit": list(cut.run(PROMPT))},
        "pair": {"index": PAIR, **on_pair(circuit)},
        "steering": {"node": STEERED, "from": FROM, "to": TO, "strength": STRENGTH, **steered(run)},
    }


def at_value(node: Node, value: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a tap that holds a node at a value."""
    return lambda site: site.index_fill(-1, torch.tensor([node.channel]), value.item())


def odds(circuit: Circuit, model: Transformer, taps: Any) -> list[float]:
    """Return a whole model's probabilities of the two answers."""
    positive = answer_margins(model, circuit.question(PROMPT), taps=taps).double().sigmoid()[0].item()
    return [positive, 1 - positive]


def on_pair(circuit: Circuit) -> dict[str, Any]:
    """Return a held-out pair's positive prompt and how likely its right answer is to the circuit."""
    spec, n_pairs = circuit.task, circuit.task.n_held_out_pairs
    drawn = draw_pairs(
        TASKS[TASK], circuit.tokenizer, split=Split.held_out, n_pairs=n_pairs, seed=spec.seed, max_tokens=MODEL.n_ctx
    )
    pair = drawn.encoded[PAIR]
    margins = circuit.margins(collate([pair], circuit.tokenizer, scoring=spec.scoring))
    return {"prompt": circuit.tokenizer.decode(pair.positive), "circuit": margins.double().sigmoid()[0].item()}


def steered(run: Path) -> dict[str, list[float]]:
    """Return the dense model's likeliest next tokens' probabilities, before and after."""
    bridged, reference = load_bridged(run), validation_rows(run, n_tokens=REFERENCE_TOKENS, n_ctx=MODEL.n_ctx)
    both = (steer(bridged, [STEERED], FROM, TO, reference=reference, strength=each) for each in (0.0, STRENGTH))
    return {name: each.topk(6).values.tolist() for name, each in zip(("before", "after"), both, strict=True)}


def notes(run: Path) -> Any:
    """Return what a reader has written into the circuit's file."""
    return to_plain(Circuit.load(circuit_path(run, TASK)).notes)


if __name__ == "__main__":
    print(json.dumps({"write": write, "notes": notes}[sys.argv[1]](Path(sys.argv[2]))))
