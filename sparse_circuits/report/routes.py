"""The paths of a circuit that matter most, by the product of their weights (circuits/measures/paths.py).

    ov   [{product, nodes, starts}] from tokens to the answers' difference; nodes are positions in the payload's `nodes`,
         starts [[place in `texts`, weight]] the tokens of the pairs that write most to the first channel
    qk   [{product, query, key}] both halves as above: two ways that meet in one head's score
    n_ov, n_qk   how many there are in all

For a task whose answers differ from pair to pair, paths end in those of the first pair.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.measures.paths import CircuitPath, count_paths, ov_paths, qk_paths
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node
from sparse_circuits.report.numbers import nine_digits
from sparse_circuits.report.texts import Texts

N_PATHS = 24
"""Of either kind."""


def circuit_paths(
    circuit: Circuit,
    place: Mapping[Node, int],
    texts: Texts,
    *,
    answers: tuple[str, str] | None,
    among: Collection[int] | None,
) -> dict[str, Any] | None:
    """Return the largest paths, or None where the answers that they would end in are not one token each.

    Args:
        circuit: what they run through.
        place: the position of every node in the payload.
        texts: where tokens' texts go.
        answers: the two that paths end in; None: the task's.
        among: tokens that paths may start with; None: all.
    """

    def plain(path: CircuitPath) -> dict[str, Any]:
        starts = [[texts.place(start.text), nine_digits(start.weight)] for start in path.starts]
        nodes = [place[node] for node in path.nodes]
        return {"product": nine_digits(path.product), "nodes": nodes, "starts": starts}

    try:
        n_ov, n_qk = count_paths(circuit, answers=answers, among=among)
        ov = [plain(path) for path in islice(ov_paths(circuit, answers=answers, among=among), N_PATHS)]
    except UserError:
        return None
    qk = [
        {"product": nine_digits(path.product), "query": plain(path.query), "key": plain(path.key)}
        for path in islice(qk_paths(circuit, among=among), N_PATHS)
    ]
    return {"ov": ov, "qk": qk, "n_ov": n_ov, "n_qk": n_qk}
