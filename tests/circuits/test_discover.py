"""Mask learning: the objective's gradient, bounds, determinism, and that it keeps what a loss needs."""

import dataclasses

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits.discover import MaskConfig, MaskStep, initial_mask, learn_mask, schedule
from sparse_circuits.errors import UserError
from sparse_circuits.tasks import PairBatch, Scoring, Split, encode_pairs
from tests.circuits.toy import EXTRACT, TASK, Toy

NO_PAIRS = PairBatch(
    torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, dtype=torch.long), torch.zeros(1, 2, 1).long(), Scoring.pair
)


def run(step: MaskStep, n_steps: int) -> None:
    for index in range(n_steps):
        step(NO_PAIRS, index=index)


def test_first_step_follows_the_gradient_of_both_terms() -> None:
    """AdamW's first step is the learning rate times the gradient's sign; the node count's gradient is k_coef s (1 - s)."""
    mask = torch.full((3,), 0.1, dtype=torch.float64)
    s = torch.sigmoid(mask[0])
    count = 1e-3 * (s * (1 - s)).item()
    pull = torch.tensor([1.5 * count, 0.5 * count, 0.0], dtype=torch.float64)
    config = MaskConfig(n_steps=9, lr=0.01, weight_decay=0.0, warmup=0.0, k_coef=1e-3)
    step = MaskStep(mask.clone(), lambda mask, batch: -(pull * mask).sum(), config)
    metrics = step(NO_PAIRS, index=0)
    moved = (step.mask.detach() - mask) / (config.lr * schedule(0.1, warmup=0.0))
    torch.testing.assert_close(moved.sign(), torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(moved.abs(), torch.ones(3, dtype=torch.float64), rtol=1e-3, atol=0)
    assert metrics["n_nodes"] == 3


def test_masks_stay_within_one_and_useless_nodes_go() -> None:
    config = MaskConfig(n_steps=100, lr=0.2)

    def task_loss(mask: Tensor, batch: PairBatch) -> Tensor:
        return -mask[:2].sum()

    step = MaskStep(torch.full((5,), 0.1), task_loss, config)
    run(step, 100)
    assert step.mask.abs().max() <= 1
    assert (step.mask > 0).tolist() == [True, True, False, False, False]


def test_long_gradients_are_scaled_down() -> None:
    step = MaskStep(torch.full((4,), 0.1), lambda mask, batch: 1e6 * mask.sum(), MaskConfig(max_gradient_norm=0.5))
    step(NO_PAIRS, index=0)
    assert abs(step.mask.grad.norm() - 0.5) < 1e-5


def test_schedule_warms_up_and_falls_to_zero() -> None:
    assert [schedule(p, warmup=0.2) for p in (0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_starts_with_every_node_on(toy: Toy) -> None:
    mask = initial_mask(toy.model, MaskConfig(), seed=0)
    assert (mask > 0).all() and abs(mask.mean() - 0.1) < 0.01
    noisy = initial_mask(toy.model, MaskConfig(init_noise_scale=3.0), seed=0)
    assert noisy.min() == -1 and noisy.max() == 1


def test_same_seed_same_mask_and_the_model_is_untouched(toy: Toy) -> None:
    pairs = encode_pairs(TASK, toy.tokenizer, split=Split.train, n_pairs=32, seed=0)
    config = dataclasses.replace(EXTRACT.masks, n_steps=4)
    model = toy.model.requires_grad_(True)  # even a model that could learn
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    masks = [learn_mask(model, pairs, toy.means, config=config, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.requires_grad_(False).parameters())


@pytest.mark.parametrize("wrong", [{"n_steps": 0}, {"lr": -1.0}, {"heaviside_temp": 0.0}, {"k_coef": -1e-4}, {"warmup": 1.0}])
def test_refuses_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        MaskConfig(**wrong)
