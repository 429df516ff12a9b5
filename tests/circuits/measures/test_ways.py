"""Ways through random graphs: all of them, in order, and as many as were counted; by brute force."""

import math
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.circuits.measures.ways import best_first, count_ways

N_VERTICES = 7


def all_ways(graph: dict, vertices: tuple = (0,), weights: tuple = ()) -> list[tuple[tuple, tuple]]:
    if vertices[-1] == N_VERTICES - 1:
        return [(vertices, weights)]
    following = [(vertex, weight) for vertex, weight in graph.get(vertices[-1], ()) if weight != 0]
    return [way for vertex, weight in following for way in all_ways(graph, (*vertices, vertex), (*weights, weight))]


@st.composite
def graphs(draw: st.DrawFn) -> dict[int, list[tuple[int, float]]]:
    weight = st.none() | st.floats(-3, 3).map(lambda number: round(number, 2))
    found = {}
    for vertex in range(N_VERTICES):
        weights = {later: draw(weight) for later in range(vertex + 1, N_VERTICES)}
        found[vertex] = [(later, each) for later, each in weights.items() if each is not None]
    return found


@given(graphs())
def test_lists_and_counts_every_way_largest_first(graph: dict) -> None:
    expected, found = all_ways(graph), list(best_first(graph, 0, N_VERTICES - 1))
    assert sorted(found) == sorted(expected)
    assert count_ways(graph, 0, N_VERTICES - 1) == len(expected)
    sizes = [abs(math.prod(way.weights)) for way in found]
    assert all(next_size <= size * (1 + 1e-12) for size, next_size in pairwise(sizes))


def test_far_too_many_ways_are_counted_and_the_first_listed_at_once() -> None:
    graph = {}
    for level in range(100):
        graph |= {(level, side): [((level + 1, to), 0.9 - 0.1 * to) for to in (0, 1)] for side in (0, 1)}
    graph |= {(100, side): [("end", 1.0)] for side in (0, 1)}
    assert count_ways(graph, (0, 0), "end") == 2**100
    first, second = islice(best_first(graph, (0, 0), "end"), 2)
    assert math.prod(first.weights) == pytest.approx(0.9**100)
    assert math.prod(second.weights) == pytest.approx(0.9**99 * 0.8)


def test_no_way_is_no_way() -> None:
    graph = {"a": [("b", 0.0)], "b": [("c", 1.0)]}
    assert list(best_first(graph, "a", "c")) == [] and count_ways(graph, "a", "c") == 0
