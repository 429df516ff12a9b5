"""Curves of a study: what is averaged over what, and which cells count."""

import pytest

from experiments.figures import by_cell, edges_by_target


def test_edges_are_means_over_seeds_then_tasks_of_the_targets_that_all_tasks_reach() -> None:
    nothing = dict.fromkeys(("0.02", "0.05", "0.1", "0.15", "0.3", "0.5"))
    rows = [
        {"task": "one", "sizes": {**nothing, "0.1": [3, 4], "0.5": [1, 0]}},
        {"task": "one", "sizes": {**nothing, "0.1": [3, 16], "0.5": [1, 0]}},
        {"task": "one", "sizes": nothing},  # refused on this seed's pairs
        {"task": "two", "sizes": {**nothing, "0.05": [9, 50], "0.1": [9, 32], "0.5": [2, 4]}},
    ]
    targets, edges = edges_by_target(rows)
    assert targets == [0.1, 0.5] and edges == pytest.approx([16, 2])
    assert edges_by_target([]) == ([], [])


def test_a_task_counts_once_in_a_cell_of_the_grid_and_only_where_all_models_know_it() -> None:
    models = [{"kind": "model", "width": 64, "l0": l0, "validation_loss": l0 / 10} for l0 in (10, 20)]
    found = [(10, "one", 4), (10, "one", 16), (10, "two", 2), (20, "one", 3), (20, "three", 7)]
    nodes = [{"kind": "nodes", "width": 64, "l0": l0, "task": task, "n_edges": edges} for l0, task, edges in found]
    refused = {"kind": "nodes", "width": 64, "l0": 20, "task": "two", "error": "no set of nodes"}
    cells = by_cell([*models, *nodes, refused])
    assert list(cells) == [(64, 10), (64, 20)] and [row for row, _ in cells.values()] == models
    assert [edges for _, edges in cells.values()] == [pytest.approx([8]), pytest.approx([3])]
