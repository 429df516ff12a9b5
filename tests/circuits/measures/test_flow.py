"""A circuit as a graph: where it starts, what its answers are, and the mirror image behind attention scores."""

import dataclasses

import pytest

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.measures.flow import ANSWERS, TOKENS, Mirrored, answer_tokens, find_starts, ov_graph, qk_graph
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node


def test_answers_are_the_tokens_that_the_prompts_pairs_are_scored_on(circuit: Circuit) -> None:
    positive, negative = answer_tokens(circuit)
    assert {positive, negative} == set(circuit.task.answer_ids)
    assert [circuit.tokenizer.token(each) for each in (positive, negative)] == ['")\n', "')\n"]
    assert answer_tokens(circuit, ("')\n", '")\n')) == (negative, positive)


def test_starts_are_the_largest_embedding_weights_of_each_channel_that_is_read(circuit: Circuit) -> None:
    embedding = circuit.model.embed.weight
    read = {c for site, channels in circuit.nodes.items() if site.endswith(("act_in", "resid")) for c in channels}
    among = range(0, circuit.model.d_vocab, 2)
    starts = find_starts(circuit, among, n_tokens=3)
    assert set(starts) == set(range(circuit.model.config.d_model)) and any(starts.values())
    for channel, found in starts.items():
        column = embedding[::2, channel].abs()
        largest = [2 * row for row in column.argsort(descending=True, stable=True)[:3].tolist() if column[row] > 0]
        assert [start.token for start in found] == (largest if channel in read else []), channel
        assert all(start.weight == embedding[start.token, channel].item() for start in found)
    with pytest.raises(UserError, match="at least 1 token"):
        find_starts(circuit, None, n_tokens=0)


def test_the_mirror_runs_every_way_back_to_the_tokens(circuit: Circuit) -> None:
    keys = circuit.nodes["0.attn.k"]
    circuit = dataclasses.replace(circuit, nodes=circuit.nodes | {"0.attn.q": [keys[0], (keys[0] + 1) % 32]})
    starts = find_starts(circuit, None, n_tokens=1)
    graph, there = qk_graph(circuit, starts), ov_graph(circuit, starts, None)
    connections = [(source, target, weight) for source, ends in graph.items() for target, weight in ends]
    forward = {(source, target, weight) for source, ends in there.items() for target, weight in ends if target != ANSWERS}
    back = {(end.vertex, start.vertex, w) for start, end, w in connections if isinstance(start, Mirrored)}
    assert back == forward and any(source == TOKENS for source, _, _ in back)
    scores = [each for each in connections if isinstance(each[1], Mirrored) and not isinstance(each[0], Mirrored)]
    assert scores == [(Node("0.attn.q", keys[0]), Mirrored(Node("0.attn.k", keys[0])), pytest.approx(8**-0.5))]
