"""Links carry what the circuit's run really adds up, and the graph keeps circuit-tracer's schema."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import torch

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.notes import Group, Notes
from sparse_circuits.circuits.question import encode_question
from sparse_circuits.errors import UserError
from sparse_circuits.interop import Format, export
from sparse_circuits.interop.circuit_tracer import circuit_tracer_graph, frontend_address, write_circuit_tracer
from sparse_circuits.interop.passed import LOGIT, At, all_passed, run_on
from sparse_circuits.model import Node, record
from sparse_circuits.tasks import Scoring
from sparse_circuits.tasks.encode import EncodedPair
from tests.interop.made import ANSWERS, CONFIG, made, of_task

PROMPT = 'x") y\' z"'
# circuit_tracer/frontend/graph_models.py, commit-independent: names and types of what the frontend reads
METADATA = {"slug": str, "scan": str, "transcoder_list": list, "prompt_tokens": list, "prompt": str}
QPARAMS = {"pinnedIds": list, "supernodes": list, "linkType": str, "clickedId": str, "sg_pos": str}
NODE = {"node_id": str, "feature": int, "layer": str, "ctx_idx": int, "feature_type": str, "token_prob": float}
NODE |= {"is_target_logit": bool, "run_idx": int, "reverse_ctx_idx": int, "jsNodeId": str, "clerp": str}
LINK = {"source": str, "target": str, "weight": float}


@pytest.fixture(scope="module")
def whole() -> Circuit:
    """A circuit of every node, without AbsTopK: what links carry adds up to what the model computes."""
    return made(replace(CONFIG, abs_topk=1.0), kept=1.0)


def question(circuit: Circuit) -> EncodedPair:
    return encode_question(PROMPT, ANSWERS, circuit.tokenizer)


def sums(circuit: Circuit) -> dict[At, float]:
    """Return what arrives at every node, queries' and keys' first-order effects left out."""
    found: dict[At, float] = defaultdict(float)
    for source, target, weight in all_passed(circuit, run_on(circuit, question(circuit))):
        if not source.node.site.endswith((".q", ".k")):
            found[target] += weight
    return found


def test_what_arrives_is_what_the_run_computes(whole: Circuit) -> None:
    run, arrived, model = run_on(whole, question(whole)), sums(whole), whole.model
    tokens = torch.tensor([run.ids])
    sites = [
        "0.attn.q.pre",
        "0.attn.resid_delta.pre",
        "1.mlp.act_in",
        "1.mlp.post_act.pre",
        "1.mlp.resid_delta.pre",
        "final_resid",
    ]
    values = record(model, tokens, sites)
    last = len(run.ids) - 1
    biases = {
        "0.attn.q.pre": model.layers[0].attn.qkv.bias.chunk(3)[0],
        "0.attn.resid_delta.pre": model.layers[0].attn.out.bias,
        "1.mlp.post_act.pre": model.layers[1].mlp.into.bias,
        "1.mlp.resid_delta.pre": model.layers[1].mlp.out.bias,
    }
    for site, value in values.items():
        expected = value[0] - biases.get(site, 0.0)
        for pos in range(len(run.ids)):
            for channel in range(0, value.shape[-1], 5):
                got = arrived[At(Node(site.removesuffix(".pre"), channel), pos)]
                assert got == pytest.approx(expected[pos, channel].item(), abs=1e-6), (site, pos, channel)
    logits = model(tokens)[0, -1] - (0 if model.bigram is None else model.bigram[run.ids[-1]])
    for answer in run.answers:
        assert arrived[At(Node(LOGIT, answer), last)] == pytest.approx(logits[answer].item(), abs=1e-6)


def test_queries_and_keys_carry_what_moving_the_pattern_adds_to_first_order(whole: Circuit) -> None:
    run, step = run_on(whole, question(whole)), 1e-6
    tokens, site = torch.tensor([run.ids]), "1.attn.resid_delta"
    plain = record(whole.model, tokens, site)[site][0]
    carried: dict[tuple[str, int], float] = defaultdict(float)
    for source, target, weight in all_passed(whole, run):
        if target == At(Node(site, 3), len(run.ids) - 1) and source.node.site in ("1.attn.q", "1.attn.k"):
            carried[source.node.site, source.node.channel] += weight
    assert {name for name, _ in carried} == {"1.attn.q", "1.attn.k"}
    for (name, channel), weight in list(carried.items())[::3]:

        def shrink(value: torch.Tensor, channel: int = channel) -> torch.Tensor:
            value = value.clone()
            value[..., channel] *= 1 + step
            return value

        moved = record(whole.model, tokens, site, taps={name: shrink})[site][0]
        change = (moved - plain)[-1, 3].item() / step
        assert weight == pytest.approx(change, rel=1e-3, abs=1e-5)


def test_the_graph_keeps_the_schema_and_every_link_joins_nodes_that_lead_to_an_answer(whole: Circuit) -> None:
    graph = circuit_tracer_graph(whole, question(whole), slug="made-up")
    for values, kinds in ((graph["metadata"], METADATA), (graph["qParams"], QPARAMS)):
        assert all(isinstance(values[key], kind) for key, kind in kinds.items())
    for node in graph["nodes"]:
        assert all(isinstance(node[key], kind) for key, kind in NODE.items()), node
    ids = [node["node_id"] for node in graph["nodes"]]
    assert len(set(ids)) == len(ids)
    targets = defaultdict(set)
    for link in graph["links"]:
        assert all(isinstance(link[key], kind) for key, kind in LINK.items())
        targets[link["source"]].add(link["target"])
        assert {link["source"], link["target"]} <= set(ids)
    logits = {node["node_id"] for node in graph["nodes"] if node["feature_type"] == "logit"}
    assert len(logits) == 2 and all(targets[each] for each in set(ids) - logits)
    groups = graph["qParams"]["supernodes"]
    assert groups and all(set(group[1:]) <= set(ids) and group[0] not in ids for group in groups)
    assert sum(node["token_prob"] for node in graph["nodes"]) == pytest.approx(1)
    labels = {node["clerp"] for node in graph["nodes"] if node["feature_type"] == "cross layer transcoder"}
    assert labels <= {f"{site}[{channel}]" for site, channels in whole.nodes.items() for channel in channels}


def test_labels_and_groups_are_the_notes_and_the_address_brings_the_groups(whole: Circuit, tmp_path: Path) -> None:
    plain = circuit_tracer_graph(whole, question(whole), slug="plain")
    first, second = [group[0] for group in plain["qParams"]["supernodes"] if not group[0].startswith("Emb:")][:2]
    notes = Notes(labels={first: "opens"}, groups=[Group("quotes", [first, second])])
    path, _ = write_circuit_tracer(whole.with_notes(notes), tmp_path / "noted.json", prompt=PROMPT, answers=ANSWERS)
    graph = json.loads(path.read_text())
    before, after = ({group[0]: set(group[1:]) for group in each["qParams"]["supernodes"]} for each in (plain, graph))
    assert after.pop("quotes") == before.pop(first) | before.pop(second)
    assert after == before
    named = {node["clerp"] for node in graph["nodes"]}
    assert f"opens ({first})" in named and second in named and first not in named
    asked = parse_qs(urlsplit(frontend_address(path)).query)
    assert asked["slug"] == ["noted"] and json.loads(asked["supernodes"][0]) == graph["qParams"]["supernodes"]
    ids = [node["node_id"] for node in graph["nodes"]]
    assert graph["qParams"]["pinnedIds"] == ids[:200] and graph["qParams"]["clickedId"] in ids


def test_only_the_strongest_links_are_kept() -> None:
    circuit = made()
    few = circuit_tracer_graph(circuit, question(circuit), slug="few", n_links=30)
    assert 0 < len(few["links"]) <= 30


@pytest.mark.parametrize("scoring", Scoring)
def test_answers_are_as_likely_as_the_circuit_says(scoring: Scoring, tmp_path: Path) -> None:
    circuit = made(scoring=scoring)
    path, _ = write_circuit_tracer(circuit, tmp_path / "graph.json", prompt=PROMPT, answers=ANSWERS)
    logits = [node for node in json.loads(path.read_text())["nodes"] if node["feature_type"] == "logit"]
    found = {node["is_target_logit"]: node["token_prob"] for node in logits}
    assert [found[True], found[False]] == pytest.approx(circuit.run(PROMPT, answers=ANSWERS))


def test_files_are_listed_once(tmp_path: Path) -> None:
    for _ in range(2):
        path, _ = write_circuit_tracer(made(), tmp_path / "made-up.json", prompt=PROMPT, answers=ANSWERS)
    listed = json.loads((tmp_path / "graph-metadata.json").read_text())["graphs"]
    assert [each["slug"] for each in listed] == [path.stem] == ["made-up"]
    assert json.loads(path.read_text())["metadata"]["prompt"] == PROMPT


def test_a_prompt_without_answers_is_refused(tmp_path: Path) -> None:
    circuit = made()
    with pytest.raises(UserError, match="differ from pair to pair"):
        write_circuit_tracer(replace(circuit, task=replace(circuit.task, answers=None)), tmp_path / "a.json", prompt=PROMPT)
    with pytest.raises(UserError, match="scores answers of this task only"):
        write_circuit_tracer(circuit, tmp_path / "a.json", prompt=PROMPT, answers=("x", "y"))


def test_a_circuit_of_the_projects_own_tasks_is_exported_on_a_held_out_prompt(tmp_path: Path) -> None:
    circuit = of_task("single_double_quote")
    files = export(circuit, Format.circuit_tracer, tmp_path / "quote.json")
    assert [file.name for file in files] == ["quote.json", "graph-metadata.json"]
    prompt = json.loads(files[0].read_text())["metadata"]["prompt"]
    assert prompt.startswith("def ") and json.loads(files[1].read_text())["graphs"][0]["prompt"] == prompt
    with pytest.raises(UserError, match="no task of the project's own"):
        export(made(), Format.circuit_tracer, tmp_path / "made_up.json")
