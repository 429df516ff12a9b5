"""Ways through a weighted graph without cycles: counted, and listed by the size of the product of their weights.

1. Folding the graph from its end gives each vertex the largest |product| of any way on from there, or the number of ways.
2. A best-first search with that bound, which is exact, yields ways lazily: each begun way in the queue belongs to one that
   will be listed, and the queue's first is the next largest.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cache
from itertools import count
from typing import NamedTuple, TypeVar

Graph = Mapping[Hashable, list[tuple[Hashable, float]]]
"""For each vertex those that follow it, with the weight between; a weight of 0 is no connection."""


class Way(NamedTuple):
    """One way from the start to the end."""

    vertices: tuple[Hashable, ...]
    """Both ends included."""
    weights: tuple[float, ...]
    """Between one vertex and the next."""


def best_first(graph: Graph, start: Hashable, end: Hashable) -> Iterator[Way]:
    """Yield every way from start to end, largest |product| of weights first; ties in the order of the graph."""
    ahead = _fold(graph, end, lambda ways: max((weight * best for weight, best in ways), default=0.0))
    ties = count()
    queue = [(-ahead(start), next(ties), Way((start,), ()))]
    while queue:
        _, _, way = heapq.heappop(queue)
        if way.vertices[-1] == end:
            yield way
        for vertex, weight in graph.get(way.vertices[-1], ()):
            if weight and ahead(vertex):
                longer = Way((*way.vertices, vertex), (*way.weights, weight))
                heapq.heappush(queue, (-abs(math.prod(longer.weights)) * ahead(vertex), next(ties), longer))


def count_ways(graph: Graph, start: Hashable, end: Hashable) -> int:
    """Return how many ways lead from start to end, without listing them."""
    return _fold(graph, end, lambda ways: sum(n_ways for weight, n_ways in ways if weight))(start)


Folded = TypeVar("Folded", int, float)


def _fold(
    graph: Graph, end: Hashable, join: Callable[[Iterable[tuple[float, Folded]]], Folded]
) -> Callable[[Hashable], Folded]:
    """Return what `join` makes at a vertex of |weight| and its own result, for each vertex that follows; at the end, 1."""

    @cache
    def folded(vertex: Hashable) -> Folded:
        return 1 if vertex == end else join((abs(weight), folded(after)) for after, weight in graph.get(vertex, ()))

    return folded
