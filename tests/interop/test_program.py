"""The exported program: the circuit's own probabilities, in a Python that can reach neither torch nor this package."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.discovery.merge import merged
from sparse_circuits.circuits.subgraph import Merge, Subgraph
from sparse_circuits.errors import UserError
from sparse_circuits.interop import Format, export
from sparse_circuits.interop.answers import question
from sparse_circuits.model import Link, Positions, record
from sparse_circuits.model.config import Activation, PositionKind, SiteFractions
from sparse_circuits.tasks import Scoring
from sparse_circuits.tasks.encode import collate
from tests.interop.alone import exported, run
from tests.interop.made import CONFIG, answer_ids, answer_sets, as_lists, cut, made, of_task, prompts


def assert_agree(circuit: Circuit, folder: Path, *, atol: float) -> None:
    program = exported(circuit, folder)
    batch = prompts(circuit)
    assert len(batch.tokens) >= 100
    found = run(program, [[ids] for ids in as_lists(batch)])
    expected = circuit.margins(batch).double().sigmoid().numpy()
    assert np.ptp(expected) > 0.1, "all prompts have the same answer, which tests nothing"
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


MODELS = {
    "plain": (CONFIG, Scoring.pair, ()),
    "added": (replace(CONFIG, positions=Positions.added, activation=Activation.relu), Scoring.prefix_set, ()),
    "concatenated": (replace(CONFIG, positions=Positions.concatenated, d_pos=3), Scoring.complement, ()),
    "sinusoidal": (
        replace(CONFIG, positions=Positions.concatenated, position_kind=PositionKind.sinusoidal, activation=Activation.relu),
        Scoring.pair,
        ("0.attn.act_in", "0.mlp.resid_delta", "1.attn.q", "1.mlp.post_act"),
    ),
    "bare": (
        replace(CONFIG, sinks=False, bigram=False, biases=False, tied=True, n_heads=3, abs_topk=0.5),
        Scoring.prefix_set,
        ("0.attn.v", "1.attn.k", "1.mlp.act_in"),
    ),
    "uneven": (
        replace(CONFIG, site_fractions=SiteFractions(attn_q=1.0, attn_resid_delta=0.1, mlp_post_act=0.5)),
        Scoring.complement,
        ("0.attn.k", "1.attn.resid_delta"),
    ),
}


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_program_gives_the_circuits_probabilities(name: str, is_cut: bool, tmp_path: Path) -> None:
    config, scoring, without = MODELS[name]
    circuit = made(config, scoring=scoring, without=without)
    if is_cut:
        whole, circuit = circuit, cut(circuit)
        batch = prompts(circuit)
        assert not torch.allclose(whole.margins(batch), circuit.margins(batch))
    assert_agree(circuit, tmp_path, atol=1e-6)


@pytest.mark.parametrize("site", ["0.mlp.post_act", "0.attn.v", "1.attn.v"])
def test_a_writer_that_writes_for_another_does_so_in_the_program(site: str, tmp_path: Path) -> None:
    circuit = cut(made())
    channels, width = circuit.nodes[site], CONFIG.d_head if site.endswith("v") else CONFIG.d_mlp
    node, into = next(pair for pair in permutations(channels, 2) if pair[0] // width == pair[1] // width)
    found = merged(Subgraph(circuit.nodes, circuit.edges), Merge(f"{site}[{node}]", f"{site}[{into}]", 1.3, 0.99))
    assert_agree(replace(circuit, nodes=found.nodes, edges=found.edges, merges=list(found.merges)), tmp_path, atol=1e-6)


def test_a_circuit_without_a_final_node_answers_by_the_bigram_table(tmp_path: Path) -> None:
    assert_agree(made(without=("final_resid",)), tmp_path, atol=1e-6)


def test_a_model_in_float32_and_its_program_in_float64_agree_to_1e_5(tmp_path: Path) -> None:
    assert_agree(cut(made(dtype=torch.float32)), tmp_path, atol=1e-5)


def test_exact_ties_go_to_the_lower_channel(tmp_path: Path) -> None:
    circuit = made(replace(CONFIG, n_layers=1))
    model = circuit.model
    model.embed.weight.copy_(model.embed.weight.sign() + (model.embed.weight == 0))
    model.layers[0].attn.reader.norm.gain.fill_(1)
    batch = prompts(circuit)
    kept = record(model, batch.tokens, "0.attn.act_in")["0.attn.act_in"] != 0
    assert torch.equal(kept, torch.arange(CONFIG.d_model).expand_as(kept) < 4), "every channel has the same magnitude"
    assert_agree(circuit, tmp_path, atol=1e-6)


def test_every_edge_is_in_the_text_and_the_program_computes_with_it(tmp_path: Path) -> None:
    circuit = cut(made())
    program = exported(circuit, tmp_path)
    text = program.read_text()
    assert {
        (source, target): weight for target, weights in table(text, "EDGES").items() for source, weight in weights.items()
    } == {(str(edge.source), str(edge.target)): edge.weight for edge in circuit.edges}
    assert table(text, "NODES") == circuit.nodes

    edge = next(edge for edge in circuit.edges if edge.target.site == "1.mlp.resid_delta")
    program.write_text(text.replace(repr(edge.weight), "1.25"))
    link = Link(edge.source.site, edge.target.site)
    circuit.model.link_weight(link)[edge.target.channel, edge.source.channel] = 1.25
    changed = replace(circuit, edges=[each._replace(weight=1.25) if each == edge else each for each in circuit.edges])
    batch = prompts(circuit)
    found = run(program, [[ids] for ids in as_lists(batch)])
    np.testing.assert_allclose(found, changed.margins(batch).sigmoid().numpy(), rtol=0, atol=1e-6)


def table(text: str, name: str) -> dict:
    """Return the literal that a program assigns to a name."""
    assigned = {ast.unparse(node.targets[0]): node.value for node in ast.parse(text).body if isinstance(node, ast.Assign)}
    return ast.literal_eval(assigned[name])


def test_what_the_circuit_keeps_nothing_of_is_a_constant(tmp_path: Path) -> None:
    program = exported(made(without=("0.attn.resid_delta", "1.mlp.act_in")), tmp_path)
    walk = program.read_text()
    assert "attention(0, stream)" not in walk and "attention(1, stream)" in walk and "mlp(1, stream)" in walk
    arrays = dict(np.load(program.with_suffix(".npz")))
    assert {name for name in arrays if name.startswith("0.attn")} == {"0.attn.resid_delta mean"}
    assert "1.mlp.act_in gain" not in arrays and arrays["1.mlp.post_act rivals"].shape == (0, 24)


def test_the_arrays_hold_no_weight_of_an_edge_and_only_the_answers_columns(tmp_path: Path) -> None:
    circuit = made()
    arrays = dict(np.load(exported(circuit, tmp_path).with_suffix(".npz")))
    for site, channels in circuit.nodes.items():
        if f"{site} rivals" in arrays:
            assert not arrays[f"{site} rivals"][:, channels].any()
    assert arrays["bigram"].shape == (circuit.model.d_vocab, 2)
    assert "unembed" not in arrays


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exporting_leaves_the_circuit_as_it_is(dtype: torch.dtype, tmp_path: Path) -> None:
    circuit = made(dtype=dtype)
    before = deepcopy((circuit.means.sites, circuit.model.state_dict()))
    exported(circuit, tmp_path)
    for then, now in zip(before, (circuit.means.sites, circuit.model.state_dict()), strict=True):
        assert all(torch.equal(then[name], now[name]) for name in then)


def test_edges_share_lines_when_they_are_many_and_a_program_beyond_300_lines_is_refused(tmp_path: Path) -> None:
    few, many, too_many = (made(kept=kept) for kept in (0.3, 0.5, 0.7))
    alone = exported(few, tmp_path).read_text()
    assert all(line.startswith(('    "', '        "')) for line in lines_of(alone, "EDGES"))
    assert sum(line.startswith('    "') for line in lines_of(alone, "EDGES")) == len({edge.target for edge in few.edges})
    packed = exported(many, tmp_path).read_text()
    assert packed.count("\n") <= 300 < packed.count("\n") + len({edge.target for edge in many.edges})
    assert max(map(len, packed.splitlines())) <= 128
    with pytest.raises(UserError, match=rf"would have 3\d\d lines for its {len(too_many.edges)} edges"):
        export(too_many, Format.python, tmp_path / "long")
    assert not list(tmp_path.glob("long*"))


def lines_of(text: str, name: str) -> list[str]:
    """Return the lines of a table between its braces."""
    return text.split(f"\n{name} = {{\n")[1].split("\n}")[0].splitlines()


def test_the_docstring_tells_the_task_the_card_and_how_to_run(tmp_path: Path) -> None:
    circuit = made()
    text = " ".join(ast.get_docstring(ast.parse(exported(circuit, tmp_path).read_text())).split())
    assert text.startswith(f"{circuit.task.name}: {circuit.task.summary} A circuit of ")
    assert f"{circuit.card.n_nodes} nodes and {circuit.card.n_edges} edges" in text
    assert "verdict does not hold: necessity" in text and "circuit loss 0.046 accuracy 1.000 about circuit" in text
    assert "python program.py ID [ID ...]" in text
    positive, negative = (circuit.tokenizer.token(token) for token in answer_ids())
    assert f"the probability of {positive!r} against {negative!r}" in text


def command(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", str(program), *map(str, words)], capture_output=True, text=True)


def test_the_command_line_prints_the_probability(tmp_path: Path) -> None:
    circuit = made()
    program, batch = exported(circuit, tmp_path), prompts(circuit, n_pairs=4)
    done = command(program, *as_lists(batch)[3])
    assert float(done.stdout) == pytest.approx(circuit.margins(batch)[3].sigmoid().item(), abs=1e-6)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["lambda_func", "else_elif", "var_swap"])
def test_the_command_in_the_docstring_can_be_run(name: str, tmp_path: Path) -> None:
    circuit = of_task(name)
    program = exported(circuit, tmp_path)
    text = ast.get_docstring(ast.parse(program.read_text()))
    (words,) = (shlex.split(line) for line in text.replace("\\\n", "").splitlines() if "python program.py" in line)
    done = command(program, *words[2:])
    batch = collate([question(circuit).example], circuit.tokenizer, scoring=circuit.task.scoring)
    assert float(done.stdout) == pytest.approx(circuit.margins(batch)[0].sigmoid().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([1] * 13, "The prompt has 13 tokens: give 1 to 12."),
        ([1, 266], "266 is no token: give ids from 0 to 265."),
        ([1, -1], "-1 is no token: give ids from 0 to 265."),
        ([1, "--positive", 5], "Token 5 is no answer of this task: give one of {answers}."),
    ],
)
def test_a_wrong_prompt_ends_in_one_sentence(words: list, says: str, tmp_path: Path) -> None:
    circuit = made()
    done = command(exported(circuit, tmp_path), *words)
    assert done.stderr == says.format(answers=", ".join(map(str, circuit.task.answer_ids))) + "\n"
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("scoring", [Scoring.pair, Scoring.complement])
def test_answers_that_differ_from_prompt_to_prompt_are_asked_for(scoring: Scoring, tmp_path: Path) -> None:
    circuit = made(scoring=scoring)
    several = replace(circuit, task=replace(circuit.task, answers=None))
    program = exported(several, tmp_path)
    assert "differ from prompt to prompt" in command(program, 1).stderr
    batch = prompts(circuit, n_pairs=4)
    positive, negative = answer_sets(scoring)
    sides = [positive] if scoring is Scoring.complement else [positive, negative]
    found = run(program, [[ids, *sides] for ids in as_lists(batch)])
    np.testing.assert_allclose(found, circuit.margins(batch).sigmoid().numpy(), rtol=0, atol=1e-6)


def test_the_path_may_carry_its_suffix(tmp_path: Path) -> None:
    for given in ("a/quote.py", "b/quote"):
        paths = export(made(), Format.python, tmp_path / given)
        assert [path.name for path in paths] == ["quote.py", "quote.npz"]
        assert sorted(paths[0].parent.iterdir()) == sorted(paths)
