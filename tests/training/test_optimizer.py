"""The step in one pass is AdamW's step and then the projection, to the bit on a CPU."""

import copy

import torch

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
