"""The step in one pass is AdamW's step and then the projection, to the bit on a CPU; settings that AdamW cannot have."""

import copy

import pytest
import torch

from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.sparsity import SparsityConfig, project_, sparse_budgets
from sparse_circuits.training.config import OptimizerConfig
from sparse_circuits.training.optimizer import build_optimizer, step_and_project_


def test_one_pass_equals_one_after_the_other() -> None:
    model = Transformer(ModelConfig(n_layers=1, d_model=16, d_head=8, n_ctx=8), d_vocab=20)
    twin = copy.deepcopy(model)
    budgets = sparse_budgets(model, SparsityConfig(l0_fraction=0.3))
    ours, theirs = (build_optimizer(dict(each.named_parameters()), OptimizerConfig()) for each in (model, twin))
    for density in (1.0, 0.4, 0.0, 0.0):
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        divisor = torch.rand(()) + 0.5
        step_and_project_(ours, dict(model.named_parameters()), budgets, lr=0.02, divisor=divisor, density=density)
        for group in theirs.param_groups:
            group["lr"] = 0.02
        theirs.grad_scale = divisor
        theirs.step()
        project_(twin, budgets, density=density)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(p, q)
            assert all(torch.equal(ours.state[p][key], theirs.state[q][key]) for key in ("step", "exp_avg", "exp_avg_sq"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lr": 0.0}, "optimizer.lr = 0.0 .* must both be above 0"),
        ({"beta1": 1.0}, "optimizer.beta1 is 1.0: give a decay from 0 to below 1"),
        ({"beta2": -0.1}, "optimizer.beta2 is -0.1: give a decay"),
        ({"weight_decay": -0.1}, "optimizer.weight_decay is -0.1: give 0 or more"),
        ({"warmup": 1.0}, "optimizer.warmup is 1.0: give a share"),
    ],
)
def test_bad_settings_are_refused(change: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        OptimizerConfig(**change)
