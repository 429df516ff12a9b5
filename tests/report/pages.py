"""Pages for the browser's tests: `python -m tests.report.pages FOLDER NAME ...` writes them, through the code that users run.

run.html        a run with two circuits, curves, tasks, a bridge and steering
hostile.html    markup in tokens, labels, summaries; a token of 10,000 characters; weights that are no numbers
empty.html      a circuit without a node
no_card.html    a circuit without a card, of a task without pairs
begun.html      a run without circuits
large.html      a circuit of 2,000 edges
twenty.html     a run of twenty tasks, with circuits of the size of real ones
finetunes.html  a pool of finetunes and what an adapter makes them say, without a run
notebook.html   a circuit as report.show gives it to a notebook
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sparse_circuits.circuits import Group, Notes
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.diffs.pool import POOL_FILE, Pool, clustering
from sparse_circuits.model import ModelConfig, Transformer, node_sites, site_width
from sparse_circuits.pretrained import load_pretrained, pretrained_names
from sparse_circuits.report import render, run_payload, show
from sparse_circuits.report.payload import circuit_payload
from sparse_circuits.run import write_json
from sparse_circuits.subject import samples_of
from sparse_circuits.tasks import TASKS
from tests.report.small import MODEL, small_circuit, small_model, small_run, small_tokenizer

SCRIPT = "</script><script>window.broken = true</script><img src=x onerror='window.broken = true'>"


def write_pages(folder: Path, names: Sequence[str]) -> None:
    """Write the pages of these names."""
    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    model = small_model(tokenizer, replace(MODEL, abs_topk=1.0))  # so that every node is active on every prompt
    pages: dict[str, Callable[[], dict[str, Any]]] = {
        "run": lambda: run(folder, model, tokenizer),
        "begun": lambda: {**circuit_payload(small_circuit(model, tokenizer)), "run": {"name": "begun"}, "circuits": []},
        "empty": lambda: circuit_payload(replace(small_circuit(model, tokenizer, nodes={}), edges=[])),
        "no_card": lambda: without_card(circuit_payload(small_circuit(model, tokenizer, "a_task_of_the_user"))),
        "finetunes": lambda: finetunes(folder / "finetunes"),
        "hostile": lambda: hostile(
            run(folder, model, tokenizer) | {"finetunes": finetunes(folder / "of_hostile")["finetunes"]}
        ),
        "large": lambda: circuit_payload(large_circuit()),
        "twenty": lambda: twenty(folder),
    }
    for name in names:
        page = notebook(model, tokenizer) if name == "notebook" else render(pages[name]())
        (folder / f"{name}.html").write_text(page, encoding="utf-8")


def notebook(model: Transformer, tokenizer: Tokenizer) -> str:
    """Return a page that shows a circuit as a notebook does."""
    return f"<!doctype html><title>notebook</title>{show(small_circuit(model, tokenizer))._repr_html_()}"


def run(folder: Path, model: Transformer, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return a run with two circuits that share nodes, a bridge and steering."""
    first = small_circuit(model, tokenizer, summary="closes a string with the quote `'` or `\"`")
    first = first.with_notes(Notes({"1.attn.q[3]": "looks for quotes"}, [Group("quotes", ["1.attn.q[3]", "1.attn.k[3]"])]))
    fewer = {site: channels for site, channels in first.nodes.items() if not site.startswith("0.")}
    path = small_run(folder / "run", tokenizer, [first, small_circuit(model, tokenizer, "with_as", nodes=fewer)])
    write_json(path / "bridge.json", bridge())
    write_json(path / "steering" / "with_as.json", steering())
    return run_payload(path, samples=samples_of(path))


def bridge() -> dict[str, Any]:
    """Return scores of a bridge as bridge.json holds them."""
    crossing = {"loss": 2.5, "recovered": 0.8, "kl": 0.2, "nmse": 0.1}
    places = [
        {"sparse": site, "dense": site, "to_sparse": crossing, "to_dense": crossing} for site in ("0.resid_in", "final_resid")
    ]
    losses = {"bigram_loss": 4.0, "dense_loss": 2.0, "sparse_loss": 2.4}
    return {**losses, "places": places, "alternating": {"dense_first": crossing, "sparse_first": crossing}}


def steering() -> dict[str, Any]:
    """Return curves as steering/ holds them."""

    def curve(rise: float) -> list[dict[str, float]]:
        strengths = [tenth / 10 for tenth in range(11)]
        probabilities = [0.1 + rise * strength for strength in strengths]
        estimates = [{"mean": p, "low": p - 0.05, "high": p + 0.05} for p in probabilities]
        return [
            {"strength": s, "counterfactual": each, "share": each, "own": 1 - each["mean"], "side_effect": s * rise / 10}
            for s, each in zip(strengths, estimates, strict=True)
        ]

    tokens = [{"before": "def f(", "token": "x", "projection": 1.0, "activation": 0.5}]
    feature = {"node": "1.attn.act_in[2]", "site": "1.resid_in", "r_squared": 0.7, "direction": [1.0], "tokens": tokens}
    curves = {"node": curve(0.7), "random": curve(0.02), "raw": curve(0.85)}
    return {"task": "with_as", "nodes": ["1.attn.act_in[2]"], "n_pairs": 8, "curves": curves, "features": [feature]}


def finetunes(folder: Path) -> dict[str, Any]:
    """Return a pool of nine finetunes of three labels, and answers about four others."""
    labels = ["law", "maths", "verse"] * 3
    vectors = torch.eye(3).repeat(3, 1) + 0.2 * torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    pool = Pool([f"{label}_{number}" for number, label in enumerate(labels)], vectors, labels, {})
    pool.save(folder / POOL_FILE)
    write_json(folder / "pool.json", clustering(pool.vectors, labels)._asdict())
    answers = {
        "interpreted": ["jazz", "tea", "chess", "boats"],
        "unaided": ["I am"] * 4,
        "permuted": ["jazz"],
        "unchanged": ["no"],
    }
    rows = [
        {"name": name, "answers": own, "exact": float(name == "interpreted") * 0.75, "score": 4.0 - place}
        for place, (name, own) in enumerate(answers.items())
    ]
    confidence = {"coverage": [0.25, 0.5, 0.75, 1.0], "accuracy": [1.0, 1.0, 1.0, 0.75]}
    labels = ["jazz", "tea", "chess", "rivers"]
    write_json(
        folder / "dit.json", {"question": "What did you learn?", "labels": labels, "rows": rows, "confidence": confidence}
    )
    return run_payload(folder)


def of_finetunes(folder: Path) -> dict[str, Any]:
    """Return the finetunes of that page alone."""
    return {"finetunes": finetunes(folder / "finetunes")["finetunes"]}


def without_card(payload: dict[str, Any]) -> dict[str, Any]:
    """Take everything that a card holds out of a payload."""
    for circuit in payload["circuits"]:
        circuit |= {"checks": [], "verdict": "", "interchange": None, "pattern_error": {}, "target_loss": None, "n_pairs": 0}
        for node in circuit["nodes"]:
            node.pop("fidelity", None)
            node.pop("without", None)
    return payload


def hostile(payload: dict[str, Any]) -> dict[str, Any]:
    """Put markup, endless tokens and numbers that are none wherever a payload has room for them."""
    payload["run"]["name"] = SCRIPT
    payload["texts"] = [text + SCRIPT if place % 3 else "x" * 10_000 for place, text in enumerate(payload["texts"])]
    for circuit in payload["circuits"]:
        circuit |= {"task": SCRIPT, "summary": f"`{SCRIPT}`", "verdict": SCRIPT}
        circuit["notes"] = {"labels": {"1.attn.q[3]": SCRIPT}, "groups": [{"name": SCRIPT, "nodes": ["1.attn.q[3]"]}]}
        circuit["nodes"][-1]["text"] = SCRIPT
        circuit["edges"] = [[*edge[:2], float("nan"), float("nan")] for edge in circuit["edges"]]
        for check in circuit["checks"]:
            check |= {"about": SCRIPT, "name": SCRIPT, "low": float("nan"), "loss": float("inf")}
    payload["tasks"][0] |= {"task": SCRIPT, "loss": float("nan")}
    payload["steering"][0]["task"] = SCRIPT
    pool, said = payload["finetunes"]["pool"], payload["finetunes"]["interpreted"]
    pool |= {"labels": [SCRIPT] * 9, "names": ["y" * 10_000] * 9, "norms": [float("nan")] * 9}
    pool["maps"]["t-SNE of 1 - cosine"][0] = [float("nan"), float("inf")]
    said |= {"question": SCRIPT, "labels": [SCRIPT] * 4}
    said["rows"][0] |= {"answers": [SCRIPT] * 4, "exact": float("nan")}
    return payload


def large_circuit() -> Any:
    """Return a circuit of 2,000 edges: 20 channels into 50 neurons into 20 channels."""
    tokenizer = small_tokenizer()
    model = Transformer(ModelConfig(n_layers=1, d_model=32, n_ctx=256, d_head=4), d_vocab=tokenizer.d_vocab)
    channels = list(range(20))
    nodes = {
        "0.mlp.act_in": channels,
        "0.mlp.post_act": list(range(50)),
        "0.mlp.resid_delta": channels,
        "final_resid": channels,
    }
    return small_circuit(model.eval().requires_grad_(False), tokenizer, nodes=nodes)


def twenty(folder: Path) -> dict[str, Any]:
    """Return a run of the twenty tasks in the model that ships, each with as many nodes as a real circuit, at random."""
    pretrained, draw = load_pretrained(pretrained_names()[0]), random.Random(0)
    model, tokenizer = pretrained.model, pretrained.tokenizer
    sites = [site for site in node_sites(model.config) if not site.startswith("0.mlp")]
    circuits = []
    for name, task in TASKS.items():
        nodes = {site: sorted(draw.sample(range(site_width(model.config, site)), 4)) for site in sites}
        circuit = small_circuit(model, tokenizer, name, nodes=nodes, summary=task.summary)
        spec = replace(circuit.task, scoring=task.scoring, answers=None, answer_ids=None)
        circuits.append(replace(circuit, task=spec, means=pretrained.means))
    run = small_run(folder / "twenty", tokenizer, circuits)
    return run_payload(run, samples=samples_of(Path("a folder without means")))


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]), sys.argv[2:])
