"""Discretisation: ranks without chance, and the smallest size on losses that are not monotone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.discretise import N_BELOW, discretise, smallest_size, top_nodes
from sparse_circuits.circuits.margin import answer_margins, score
from sparse_circuits.circuits.nodes import count_nodes
from sparse_circuits.tasks import PairBatch, Split, encode_pairs
from tests.circuits.toy import CONFIG, EXTRACT, TASK, Toy


def validation_pairs(toy: Toy) -> PairBatch:
    return encode_pairs(TASK, toy.tokenizer, split=Split.validation, n_pairs=EXTRACT.n_validation_pairs, seed=EXTRACT.seed)


def test_top_nodes_by_parameter_ties_to_the_first() -> None:
    mask = torch.tensor([0.5, 1.0, 0.5, -1.0, 1.0, 0.5])
    assert top_nodes(mask, 3).tolist() == [True, True, False, False, True, False]
    assert top_nodes(mask, 0).sum() == 0 and top_nodes(mask, 6).all()


@given(threshold=st.integers(1, 300), start=st.integers(0, 300))
def test_finds_the_threshold_of_a_monotone_loss_from_any_start(threshold: int, start: int) -> None:
    assert smallest_size(lambda k: k >= threshold, start=start, largest=300) == threshold


def test_gives_up_where_nothing_reaches_the_target() -> None:
    assert smallest_size(lambda k: False, start=5, largest=40) is None


def test_a_good_size_above_the_start_does_not_hide_one_below() -> None:
    """Sizes 60 to 99 are good, 100 to 199 spoilt, 200 and more good again: a bisection over all sizes would end at 200."""
    assert smallest_size(lambda k: 60 <= k < 100 or k >= 200, start=90, largest=400) == 60


def test_tries_the_sizes_just_below_the_result() -> None:
    """Bisection from 64 ends at 33, with 32 bad; 30 and 20 are good, and only 16 sizes are tried below."""
    tried: list[int] = []

    def reaches(k: int) -> bool:
        tried.append(k)
        return k >= 33 or k in (30, 20)

    assert smallest_size(reaches, start=64, largest=100) == 20
    assert min(tried[-N_BELOW:]) == 33 - N_BELOW
    assert smallest_size(lambda k: k >= 33 or k == 33 - N_BELOW - 1, start=64, largest=100) == 33


@given(st.lists(st.booleans(), min_size=2, max_size=80), st.integers(0, 80))
def test_whatever_the_loss_the_answer_reaches_the_target(good: list[bool], start: int) -> None:
    good[-1] = True
    found = smallest_size(lambda k: good[k], start=min(start, len(good) - 1), largest=len(good) - 1)
    assert found is not None and good[found]


def test_discretisation_returns_a_set_that_reaches_the_target(toy: Toy) -> None:
    validation = validation_pairs(toy)
    mask = torch.randn(count_nodes(CONFIG))
    found = discretise(toy.model, validation, toy.means, mask, target_loss=0.2, max_scale=100.0)
    margin = answer_margins(toy.model, validation, taps=ablation_taps(found.kept, toy.means, CONFIG))
    assert score(found.calibration(margin)).loss <= 0.2
    assert mask[found.kept].min() >= mask[~found.kept].max()
    assert discretise(toy.model, validation, toy.means, mask, target_loss=1e-9, max_scale=1.0) is None


def test_learned_masks_need_far_fewer_nodes_than_a_random_ranking(toy: Toy, circuit: Circuit) -> None:
    validation = validation_pairs(toy)
    random = discretise(
        toy.model,
        validation,
        toy.means,
        torch.randn(count_nodes(CONFIG)),
        target_loss=EXTRACT.target_loss,
        max_scale=EXTRACT.max_scale,
    )
    assert circuit.card.n_nodes < random.kept.sum() / 2
