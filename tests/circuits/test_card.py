"""The card: a check's loss and interval by hand, its bounds, and the one-line verdict."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits.circuits.card import Card, Check, Control, Interchange, NodeFidelity, check
from sparse_circuits.circuits.describe import card_lines
from sparse_circuits.plain import from_plain, to_plain
from sparse_circuits.tasks import task_accuracy, task_losses

PASSES = Check("fine", "all is well", 0.1, 0.08, 0.12, 1.0, 1, at_most=0.2)
FAILS = dataclasses.replace(PASSES, name="bad", loss=0.3)
FREE = dataclasses.replace(PASSES, name="free", loss=9.0, at_most=None)


def card(*checks: Check) -> Card:
    return Card(
        n_nodes=2,
        n_edges=1,
        nodes_per_site={"0.attn.q": 1, "0.attn.act_in": 1},
        edges_per_link={"0.attn.act_in -> 0.attn.q": 1},
        target_loss=0.15,
        n_pairs=8,
        checks=list(checks),
        without_nodes={"0.attn.q[1]": 0.4, "0.attn.act_in[3]": 0.5},
        without_edges={"0.attn.act_in[3] -> 0.attn.q[1]": 0.45},
        fidelity=[NodeFidelity("0.attn.q[1]", 0.9, 0.1)],
        pattern_error={"0.attn head 0": 0.25},
        interchange=Interchange(0.8, 0.9, 1.0, 0.75),
        backups=["0.mlp.post_act[4]"],
    )


def of(margins: Tensor) -> Check:
    return check("it", "by hand", margins)


def test_loss_and_accuracy_are_means_over_draws_and_prompts() -> None:
    margins = torch.randn(3, 10)
    found = of(margins)
    assert found.loss == pytest.approx(torch.stack([task_losses(row) for row in margins]).mean().item(), abs=1e-6)
    assert found.accuracy == pytest.approx(sum(task_accuracy(row) for row in margins) / 3)
    assert (found.name, found.about, found.n_draws, found.at_most, found.at_least) == ("it", "by hand", 3, None, None)


def test_the_interval_of_one_draw_is_the_normal_ones_of_a_mean_over_pairs() -> None:
    margins = torch.randn(1, 800, dtype=torch.float64)
    by_pair = task_losses(margins[0]).view(2, -1).mean(0)
    found, half = of(margins), 1.96 * by_pair.std().item() / 400**0.5
    assert found.low == pytest.approx(found.loss - half, abs=half / 8)
    assert found.high == pytest.approx(found.loss + half, abs=half / 8)


def test_the_interval_over_draws_and_pairs_adds_the_variances_of_both() -> None:
    draw, pair = torch.randn(40, 1, dtype=torch.float64), torch.randn(1, 100, dtype=torch.float64)
    right = 8 + 0.3 * draw + pair  # so far from a right answer that a loss is its margin
    margins = torch.cat([-right, right], dim=1)
    found = of(margins)
    half = 1.96 * (0.09 * draw.var() / 40 + pair.var() / 100).sqrt().item()
    assert found.loss == pytest.approx(right.mean().item(), abs=1e-2)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_both_prompts_of_a_pair_are_drawn_together() -> None:
    """Positive prompts do badly, negative ones well, and every pair as the others: nothing is left to chance."""
    found = of(torch.full((2, 12), -3.0))
    assert found.low == pytest.approx(found.loss, abs=1e-6) and found.high == pytest.approx(found.loss, abs=1e-6)
    assert found.accuracy == 0.5


def test_draws_are_resampled_too() -> None:
    """Of two draws that differ in nothing but their size, either comes up twice in a quarter of the samples."""
    signs = torch.tensor([1.0] * 5 + [-1.0] * 5)
    low, high = (task_losses(size * signs).mean().item() for size in (3.0, 1.0))
    found = of(torch.stack([signs, 3 * signs]))
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(2, 12), st.integers(0, 1000))
def test_the_interval_contains_the_loss_and_is_the_same_every_time(n_draws: int, n_pairs: int, seed: int) -> None:
    margins = 3 * torch.randn(n_draws, 2 * n_pairs, generator=torch.Generator().manual_seed(seed))
    found = of(margins)
    assert found.low <= found.loss <= found.high
    assert of(margins) == found


@pytest.mark.parametrize(
    ("bounds", "passes"),
    [
        ({}, True),
        ({"at_most": 0.1}, True),
        ({"at_most": 0.09}, False),
        ({"at_least": 0.1}, True),
        ({"at_least": 0.11}, False),
        ({"at_most": 0.2, "at_least": 0.11}, False),
    ],
)
def test_a_check_passes_within_its_bounds(bounds: dict[str, float], passes: bool) -> None:
    assert dataclasses.replace(FREE, loss=0.1, **bounds).passes is passes


def test_the_verdict_names_what_fails() -> None:
    searched = [dataclasses.replace(PASSES, name=control.name) for control in Control]
    good, bad = card(*searched, FREE), card(*searched, FAILS, dataclasses.replace(FAILS, name="worse"), FREE)
    assert good.holds and good.failed == [] and good.verdict == "holds"
    assert not bad.holds and bad.failed == ["bad", "worse"] and bad.verdict == "does not hold: bad, worse"
    assert card(*searched[1:], FREE).verdict == "holds (not searched: swapped)"
    assert bad["bad"] is bad.checks[3] and bad["free"].loss == 9.0


def test_its_text_has_a_line_for_every_check() -> None:
    verdict, head, *lines = card_lines(card(PASSES, FAILS, dataclasses.replace(FREE, at_least=9.5)))
    assert verdict.strip().startswith("does not hold: bad, free (not searched: swapped") and head.split()[:3] == [
        "8",
        "held-out",
        "pairs",
    ]
    assert lines[0].split() == ["fine", "0.100", "0.080", "to", "0.120", "1.000", "<=", "0.20"]
    assert lines[1].split()[-3:] == ["<=", "0.20", "FAILS"] and lines[2].split()[-3:] == [">=", "9.50", "FAILS"]


def test_survives_as_plain_values() -> None:
    full = card(PASSES, FAILS)
    assert from_plain(Card, to_plain(full)) == full
