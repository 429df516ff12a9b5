"""The backend is chosen by name, per op, and refuses what it cannot run."""

import pytest
import torch

from sparse_circuits.kernels.abs_topk import abs_topk, reference
from sparse_circuits.kernels.backend import OPS, Backend, backend_of, resolve_backend, use_backend

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


def test_auto_takes_what_the_device_is_made_for() -> None:
    assert resolve_backend(Backend.auto, CUDA) is Backend.triton
    assert resolve_backend(Backend.auto, CPU) is Backend.cpu
    assert resolve_backend(Backend.auto, MPS) is Backend.reference


def test_a_choice_holds_for_its_ops_and_ends_with_its_context() -> None:
    with use_backend(Backend.reference, ops=("abs_topk",)):
        assert backend_of("abs_topk", CPU) is Backend.reference
        assert backend_of("mean_ablate", CPU) is Backend.cpu
        with use_backend(Backend.triton):
            assert {backend_of(op, CUDA) for op in OPS} == {Backend.triton}
        assert backend_of("abs_topk", CPU) is Backend.reference
    assert backend_of("abs_topk", CPU) is Backend.cpu


def test_the_chosen_backend_is_the_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "abs_topk_forward", lambda x, k: torch.full_like(x, 7))
    with use_backend(Backend.reference, ops=("abs_topk",)):
        assert (abs_topk(torch.randn(2, 4), 2) == 7).all()
    assert (abs_topk(torch.randn(2, 4), 2) == 0).sum() == 4


def test_refuses_a_device_it_cannot_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="needs a CUDA or ROCm device, and this is cpu"):
        resolve_backend(Backend.triton, CPU)
    with pytest.raises(ValueError, match="runs on the CPU only, and this is cuda"):
        resolve_backend(Backend.cpu, CUDA)


def test_refuses_an_op_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="No op is called 'abs_topq'"), use_backend(Backend.cpu, ops=("abs_topq",)):
        pass
